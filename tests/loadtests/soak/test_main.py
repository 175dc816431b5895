"""The soak passes on the real server, and fails on servers that do wrong."""

import asyncio
import json
import socket
import subprocess
import threading

import pytest
from aiohttp import web

from vimserve.loadtests.common import client
from vimserve.loadtests.common.images import bomb, strip
from vimserve.loadtests.soak import __main__ as soak

CLASSES = 3
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def test_a_real_server_at_twice_its_capacity(tmp_path, capsys):
    file = tmp_path / "soak.json"
    flags = ["--threads", "1", "--max-queue-tokens", "30000"]
    load = ["--overload", "2", "--seconds", "7", "--max-requests", "2000"]
    status = soak.main([*load, "--json", str(file), "--", *flags])
    out = capsys.readouterr().out
    assert status == 0, out
    figures = json.loads(file.read_text())
    ends = figures["ends"]
    total = sum(sum(counts.values()) for counts in ends.values())
    assert figures["sent"] == total > figures["capacity"] * 7
    assert ends["single"]["answered"] > 10
    assert ends["single"]["429 queue-full"] > 10
    assert set(ends["bomb"]) == {"413 image-too-large"}
    assert set(ends["gone, sending"]) == {"abandoned"}
    assert figures["settings"]["flags"] == flags
    assert len(figures["samples"]) >= 7
    assert f"{total} sent" in out
    assert "over 1024" in out


class Stub:
    """Does everything right, until a test replaces ``good``, which answers good images."""

    def __init__(self):
        self.good = self.answer
        self.ready = 200
        self.inflight = 0

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


@pytest.fixture
def stub():
    """A stub that listens on a port of its own; ``soak()`` runs against it."""
    stub = Stub()
    app = web.Application()
    app.router.add_post("/v1/classify", stub.classify)
    app.router.add_get("/v1/models", stub.models)
    for path in ("healthz", "readyz", "metrics"):
        app.router.add_get(f"/{path}", getattr(stub, path))
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    listener = socket.create_server(("127.0.0.1", 0))
    loop.run_until_complete(web.SockSite(runner, listener).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stub.soak = lambda *flags: soak.main(
        ["--url", url, "--rate", "60", "--seconds", "1", "--timeout-ms", "400", *flags]
    )
    yield stub
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def loaded(request):
    """Whether it is not one of the requests before or after the load."""
    return request.headers["X-Request-Priority"] != "1"


def test_a_server_that_does_everything_right(stub, capsys):
    assert stub.soak() == 0, capsys.readouterr().out


def replace_with(respond):
    """A ``good`` that answers with ``respond`` under load."""

    def install(stub):
        async def good(request, images):
            if loaded(request):
                return await respond(stub, request, images)
            return await stub.answer(request, images)

        stub.good = good

    return install


async def wrong_scores(stub, request, images):
    return await stub.answer(request, images, first=0.502)


async def another_number_of_images(stub, request, images):
    return await stub.answer(request, images + 1)


async def failure(stub, request, images):
    return problem(request, 500, "model-failure")


async def silence(stub, request, images):
    await asyncio.sleep(60)


async def hang_up(stub, request, images):
    request.transport.abort()


async def late_answer(stub, request, images):
    await asyncio.sleep(1.6)
    return await stub.answer(request, images)


async def no_json(stub, request, images):
    return web.Response(text="yes", headers={"X-Request-Id": request.headers["X-Request-Id"]})


async def full_without_retry_after(stub, request, images):
    return problem(request, 429, "queue-full")


async def timeout_before_time(stub, request, images):
    return problem(request, 504, "request-timeout")


async def another_name(stub, request, images):
    answer = await stub.answer(request, images)
    answer.headers["X-Request-Id"] = "another"
    return answer


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (wrong_scores, "single: scores are wrong by 0.0020"),
        (another_number_of_images, "2 results or their classes do not match 1 images"),
        (failure, "single: 500 model-failure"),
        (silence, "no answer: TimeoutError"),
        (hang_up, "no answer: ServerDisconnectedError"),
        (late_answer, "answers came late"),
        (no_json, "an answer that cannot be read"),
        (full_without_retry_after, "429 with Retry-After ''"),
        (timeout_before_time, "504 after 0.0"),
        (another_name, "200 for request 'another', not 'soak-"),
    ],
)
def test_a_server_that_does_wrong_under_load(respond, message, stub, capsys, monkeypatch):
    monkeypatch.setattr(client, "GRACE_S", 2)
    replace_with(respond)(stub)
    assert stub.soak() == 1
    assert message in capsys.readouterr().out


def test_a_refusal_of_another_kind(stub, capsys, monkeypatch):
    real = problem
    monkeypatch.setitem(
        globals(),
        "problem",
        lambda request, status, slug: real(
            request, 400 if slug == "corrupt-image" else status, slug
        ),
    )
    assert stub.soak() == 1
    assert "truncated: 400 corrupt-image" in capsys.readouterr().out


def test_a_server_that_keeps_something(stub, capsys):
    stub.inflight, stub.ready = 1, 503
    assert stub.soak() == 1
    out = capsys.readouterr().out
    assert "vimserve_inflight is 1 after the load" in out
    assert "/readyz says 503 after the load" in out


def test_a_server_that_refuses_everything(stub, capsys):
    stub.good = lambda request, images: failure(stub, request, images)
    assert stub.soak() == 1
    assert "a picture that is to be a reference was refused" in capsys.readouterr().err


def test_most_requests(stub, tmp_path):
    file = tmp_path / "soak.json"
    assert stub.soak("--max-requests", "7", "--json", str(file)) == 0
    assert json.loads(file.read_text())["sent"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://example.org"], "must be on the loopback"),
        (["--url", "http://10.0.0.1:80"], "must be on the loopback"),
        (["--url", "https://127.0.0.1"], "must be on the loopback"),
        (["--url", "http://localhost:1", "--", "--model", "demo"], "exclude each other"),
        (["--rate", "0"], "--rate must be more than 0, not 0.0"),
        (["--seconds", "inf"], "--seconds must be more than 0, not inf"),
        (["--rate", "1", "--overload", "2"], "not allowed with"),
        (["--pid", "1"], "--pid goes with --url"),
    ],
)
def test_wrong_flags(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        soak.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_nobody_listens(capsys):
    assert soak.main(["--url", "http://127.0.0.1:9", "--seconds", "1"]) == 1
    assert "127.0.0.1" in capsys.readouterr().err


def test_a_server_that_does_not_start(capsys):
    assert soak.main(["--seconds", "1", "--", "--model", "resnet"]) == 1
    assert "the server did not become ready: vimserve: " in capsys.readouterr().err


def test_a_server_that_dies(stub, capsys, monkeypatch):
    """Its process goes, its port does not answer."""
    with subprocess.Popen(["sleep", "60"]) as process:

        async def die(stub, request, images):
            process.kill()
            request.transport.abort()

        replace_with(die)(stub)
        assert stub.soak("--pid", str(process.pid)) == 1
    assert f"process {process.pid} has ended" in capsys.readouterr().out
