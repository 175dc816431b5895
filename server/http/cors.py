"""Which pages may call the server from a browser (CORS)."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from vimserve.server.telemetry import request_id

# Requests may have these besides the headers that every page may send.
_SENT = (
    "Authorization",
    "Content-Encoding",
    "traceparent",
    "tracestate",
    request_id.HEADER,
    "X-Request-Priority",
    "X-Request-Timeout-Ms",
)
# Pages can read these of an answer besides a few common ones.
_READ = (request_id.HEADER, "Location", "Retry-After", "Server-Timing")


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins, or of any if ``*`` is one of them, use every route."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=_SENT,
        expose_headers=_READ,
    )
