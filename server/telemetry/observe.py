"""Gives every request an id, a line in the log and a place in the metrics."""

import logging
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vimserve.server.http.drain import Drain
from vimserve.server.telemetry import request_id, tracing
from vimserve.server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


class Observe:
    """ASGI middleware that logs and counts requests.

    A route sets ``model`` and ``task`` in ``request.state`` as soon as they are known to exist,
    because names that a client made up must not become labels. It sets ``resolution`` once it has
    an answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, drain: Drain) -> None:
        self.app = app
        self.metrics = metrics
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch the answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start = time.monotonic()
        status = 500
        state = scope.setdefault("state", {})
        inference = scope["method"] == "POST"
        name = request_id.accept(Headers(scope=scope).get(request_id.HEADER))
        # Never reset: errors from here are answered and logged further out, in this context.
        request_id.current.set(name)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[request_id.HEADER] = name
                if self.drain.stopping:
                    headers["Connection"] = "close"
            await send(message)

        try:
            if not inference:
                return await self.app(scope, receive, watch)
            with self.metrics.inflight.track_inprogress():
                return await self.app(scope, receive, watch)
        finally:
            seconds = time.monotonic() - start
            if inference:
                self._count(state, status, seconds)
            facts: dict[str, Any] = {
                "method": scope["method"],
                "path": quote(scope["path"]),
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "model": state.get("model", ""),
            }
            logger.log(
                logging.INFO if inference else logging.DEBUG,
                "%(method)s %(path)s %(status)d %(duration_ms).0f ms %(model)s",
                facts,
                extra=facts,
            )

    def _count(self, state: dict[str, str], status: int, seconds: float) -> None:
        model, task = state.get("model", ""), state.get("task", "")
        self.metrics.requests.labels(model, task, status).inc()
        if status >= HTTPStatus.BAD_REQUEST:
            self.metrics.failed_seconds.labels(model).inc(seconds)
        if "resolution" in state:
            of_size = self.metrics.request_seconds.labels(model, task, state["resolution"])
            of_size.observe(seconds, tracing.current.get().exemplar)
