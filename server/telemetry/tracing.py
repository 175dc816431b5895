"""What is recorded of requests on their way; nothing unless the server traces.

The classes of this module record nothing. Those of ``telemetry.otel`` take their places.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vimserve.server.config import ServerConfig
    from vimserve.server.engine.request import Req
    from vimserve.server.telemetry.metrics import BatchFigures

NO_IDS: Mapping[str, str] = MappingProxyType({})
_NOTHING = nullcontext()


class Tracing:
    """Traces the requests of an application."""

    def options(self, root_path: str) -> Mapping[str, Any]:  # noqa: ARG002
        """What the application is made with for that; a proxy shows it below ``root_path``."""
        return {}

    def add_to(self, app: "FastAPI") -> None:
        """Trace the application's requests from now on."""

    def close(self, timeout_s: float) -> None:
        """Send what has been recorded, for at most ``timeout_s``. It may block."""


class BatchTrace:
    """A batch that the device runs."""

    def end(self, figures: "BatchFigures", seconds: float) -> None:
        """Record that it has run, the last ``seconds`` of its time alone."""

    def fail(self, error: Exception) -> None:
        """Record that it has failed."""


class Trace:
    """A request, or a stage of it.

    Attributes:
        ids: ``trace_id`` and ``span_id`` in hexadecimal digits, if it has any.
        recorded: whether it will be found under these.
    """

    recorded = False

    def __init__(self, ids: Mapping[str, str] = NO_IDS) -> None:
        self.ids = ids

    @property
    def exemplar(self) -> dict[str, str] | None:
        """Labels for a measurement of this request; None if there is nothing to be found."""
        return dict(self.ids) if self.recorded else None

    def stage(self, name: str, **attributes: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """Record a part of it, which the block is; it fails if the block does."""
        return _NOTHING

    def batch(self, requests: "Sequence[Req]", *, retried: bool) -> BatchTrace:  # noqa: ARG002
        """Record a batch that begins; requests in it may have other traces."""
        return BatchTrace()


NO_TRACE = Trace()
current: ContextVar[Trace] = ContextVar("trace", default=NO_TRACE)


def stage(name: str, **attributes: str) -> AbstractContextManager[object]:
    """Record a stage of the current request; it is the current trace in the block."""
    return current.get().stage(name, **attributes)


def begin_batch(requests: "Sequence[Req]", *, retried: bool = False) -> BatchTrace:
    """Record a batch that begins, if one of its requests is recorded.

    Args:
        requests: its images.
        retried: whether they were in a batch that failed.
    """
    traces = (request.trace for request in requests)
    recorded = next((trace for trace in traces if trace.recorded), NO_TRACE)
    return recorded.batch(requests, retried=retried)


class TraceFilter(logging.Filter):
    """Adds the ids of the current trace to log records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.__dict__.update(current.get().ids)
        return True


def tracing_of(config: "ServerConfig") -> Tracing:
    """Tracing as the settings want it.

    Raises:
        ValueError: if OpenTelemetry is wanted and not installed, or its variables are wrong.
    """
    if config.otlp_endpoint is None:
        return Tracing()
    try:
        from vimserve.server.telemetry.otel.export import tracing_to
    except ImportError as error:
        raise ValueError(
            f"--otlp-endpoint needs the extra otel: pip install 'vimserve[otel]' ({error})"
        ) from error
    return tracing_to(config.otlp_endpoint)
