"""The format of the log: lines of text, or JSON."""

import logging
from typing import Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from vimserve.server.telemetry.request_id import RequestIdFilter
from vimserve.server.telemetry.tracing import TraceFilter

_TEXT = "%(asctime)s %(levelname)s [%(request_id)s] %(message)s"
_JSON = {"levelname": "level", "name": "logger", "exc_info": "exception"}


def configure_logging(level: str, style: Literal["text", "json"]) -> None:
    """Send the server's log, and warnings of its libraries, to stderr."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.addFilter(TraceFilter())
    handler.setFormatter(formatter(style))
    logging.captureWarnings(True)
    # Not on the root logger: libraries with handlers of their own would log everything twice.
    for name in ("vimserve", "uvicorn", "asyncio", "py.warnings"):
        named = logging.getLogger(name)
        named.addHandler(handler)
        named.setLevel(level if name == "vimserve" else logging.WARNING)


def formatter(style: Literal["text", "json"]) -> logging.Formatter:
    """One line, or one object, per record."""
    if style == "text":
        return _Text(_TEXT, defaults={"request_id": "-"})
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields=_JSON,
        timestamp="time",
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],
    )


class _Text(logging.Formatter):
    """Lines of text, which end with the ids of the trace if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        ids = record.__dict__
        if "trace_id" not in ids:
            return line
        return f"{line} trace_id={ids['trace_id']} span_id={ids['span_id']}"
