"""The id of a request, which its answer and its lines in the log carry."""

import logging
import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-Id"
_VISIBLE = re.compile(r"[!-~]{1,128}")

current: ContextVar[str | None] = ContextVar("request_id", default=None)


def accept(value: str | None) -> str:
    """The client's id if it is 1 to 128 visible ASCII characters, otherwise a new one.

    The limit is there because the id goes into headers and logs unchanged.
    """
    return value if value is not None and _VISIBLE.fullmatch(value) else uuid.uuid4().hex


class RequestIdFilter(logging.Filter):
    """Adds the current request's id to log records, unless their ``extra`` has one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        request_id = current.get()
        if request_id is not None and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True
