"""One log line and one count per request."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.metrics import Metrics

logger = logging.getLogger(__name__)


class Observe:
    """ASGI middleware; a route names itself through ``request.state``.

    It sets ``model`` and ``task`` as soon as they are known to exist (names that a client made up
    must not become labels) and ``resolution`` once it has an answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch the answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start = time.monotonic()
        status = 500
        state = scope.setdefault("state", {})
        inference = scope["method"] == "POST"

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
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
            logger.log(
                logging.INFO if inference else logging.DEBUG,
                "%s %s %d %.0f ms %s",
                scope["method"],
                scope["path"],
                status,
                seconds * 1000,
                state.get("model", ""),
            )

    def _count(self, state: dict[str, str], status: int, seconds: float) -> None:
        model, task = state.get("model", ""), state.get("task", "")
        self.metrics.requests.labels(model, task, status).inc()
        if "resolution" in state:
            self.metrics.request_seconds.labels(model, task, state["resolution"]).observe(seconds)
