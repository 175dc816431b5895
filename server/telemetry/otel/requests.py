"""FastAPI's span of an HTTP request, with what this server knows of the request."""

from typing import Any

from opentelemetry.trace import Span, get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vimserve.server.http.openapi import ALWAYS_OPEN
from vimserve.server.http.root_path import own_path
from vimserve.server.telemetry import request_id, tracing
from vimserve.server.telemetry.otel.spans import Recorded, Tracers, ids_of

# Machines ask them all the time.
UNTRACED = {*ALWAYS_OPEN, "/metrics"}


def is_untraced(scope: Any, root_path: str = "") -> bool:
    """Whether a request has no span; its path may have this prefix besides the scope's own."""
    return scope["type"] != "http" or own_path(scope).removeprefix(root_path) in UNTRACED


class FollowRequests:
    """ASGI middleware that makes FastAPI's span of a request the current trace.

    What ``request.state`` has as ``model`` and ``task`` becomes attributes.
    """

    def __init__(self, app: ASGIApp, tracers: Tracers) -> None:
        self.app = app
        self._tracers = tracers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch the answer."""
        span = get_current_span()
        context = span.get_span_context()
        # Never reset: errors from here are logged further out, in this context.
        if is_untraced(scope) or not context.is_valid:
            tracing.current.set(tracing.NO_TRACE)
            return await self.app(scope, receive, send)
        if not context.trace_flags.sampled:
            tracing.current.set(tracing.Trace(ids_of(context)))
            return await self.app(scope, receive, send)
        tracing.current.set(Recorded(self._tracers, span))

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                _describe(span, scope)
            await send(message)

        try:
            return await self.app(scope, receive, watch)
        except Exception:  # which is answered further out
            _describe(span, scope)
            raise


def _describe(span: Span, scope: Scope) -> None:
    facts = {name: scope["state"].get(name) for name in ("model", "task")}
    facts["request_id"] = request_id.current.get()
    span.set_attributes({f"vimserve.{name}": fact for name, fact in facts.items() if fact})
