"""A server that does everything right, until a test makes it do something wrong."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

from aiohttp import web

from vimserve.loadtests.common.images import bomb, floods, strip

CLASSES = 3
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class Stub:
    """``good`` answers good images; ``url`` is set while it listens."""

    def __init__(self):
        self.good = self.answer
        self.ready = 200
        self.inflight = 0

    @contextmanager
    def listening(self):
        app = web.Application()
        app.router.add_post("/v1/classify", self.classify)
        app.router.add_get("/v1/models", self.models)
        for path in ("healthz", "readyz", "metrics"):
            app.router.add_get(f"/{path}", getattr(self, path))
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        loop.run_until_complete(runner.setup())
        listener = socket.create_server(("127.0.0.1", 0))
        loop.run_until_complete(web.SockSite(runner, listener).start())
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def classify(self, request):
        if request.content_length > 2**30:
            return problem(request, 413, "body-too-large")
        if request.headers["X-Request-Timeout-Ms"] == "300":
            return problem(request, 408, "upload-timeout")
        data = await request.read()
        if data.startswith(b"no image"):
            return problem(request, 415, "unsupported-image")
        if data in (bomb(), strip()):
            return problem(request, 413, "image-too-large")
        if data in floods():
            return problem(request, 413, "image-too-complex")
        if data.startswith(JPEG_START) and not data.endswith(JPEG_END):
            return problem(request, 422, "corrupt-image")
        return await self.good(request, data.count(b"Content-Disposition") or 1)

    async def answer(self, request, images, first=0.5):
        best = [{"index": i, "score": (first, 0.3, 0.2)[i]} for i in range(CLASSES)]
        return reply(request, 200, {"results": [{"predictions": best}] * images})

    async def models(self, request):
        return web.json_response({"models": [{"classes": CLASSES}]})

    async def healthz(self, request):
        return web.json_response({})

    async def readyz(self, request):
        return web.json_response({}, status=self.ready)

    async def metrics(self, request):
        return web.Response(text=f"vimserve_inflight {self.inflight:.1f}\n")


def reply(request, status, body, content_type="application/json", **headers):
    headers = {"X-Request-Id": request.headers["X-Request-Id"]} | headers
    return web.Response(
        body=json.dumps(body).encode(), status=status, content_type=content_type, headers=headers
    )


def problem(request, status, slug, **headers):
    body = {"type": f"urn:vimserve:problem:{slug}", "status": status, "detail": slug}
    return reply(request, status, body, "application/problem+json", **headers)
