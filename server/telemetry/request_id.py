"""The name of a request, which its answer and every line of the log about it carry."""

import logging
import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-Id"
_VISIBLE = re.compile(r"[!-~]{1,128}")

current: ContextVar[str | None] = ContextVar("request_id", default=None)


def accept(value: str | None) -> str:
    """What a client calls its request, or a new name unless that is 1 to 128 visible ASCII
    characters: it goes into headers and logs as it is.
    """
    return value if value is not None and _VISIBLE.fullmatch(value) else uuid.uuid4().hex


class RequestIdFilter(logging.Filter):
    """Names the request that a record was made for, unless its ``extra`` did."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        request_id = current.get()
        if request_id is not None and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True
