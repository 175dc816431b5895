"""What goes wrong between us and a server: what is final, and what may pass."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
from pydantic_core import from_json

# Of what a server says, in an error of one line.
MOST_CHARACTERS = 300
LONGEST_RETRY_AFTER_S = 300.0
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Refused(OSError):  # noqa: N818, as in ``server.errors``
    """The servers cannot do what they are asked; to ask again would not help."""


class Trouble(Exception):  # noqa: N818
    """A server does not answer a request; it, or another one, may answer the next.

    Args:
        reason: what happened, on one line.
        failed: whether something is wrong with the server, not only that it has too much to do.
        retry_after_s: after how many seconds it wants to be asked again; None if it did not say.
    """

    def __init__(self, reason: str, *, failed: bool, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.failed = failed
        self.retry_after_s = retry_after_s


def check(url: str, answer: httpx2.Response) -> None:
    """Raise what an answer other than 200 means.

    Raises:
        Refused: for statuses that say that the request, or where it went, is wrong.
        Trouble: for all others.
    """
    status = answer.status_code
    if status == HTTPStatus.OK:
        return
    reason = f"{status} {_detail(answer)}"
    if status in _BUSY:
        raise Trouble(reason, failed=False, retry_after_s=retry_after(answer.headers))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        raise Trouble(reason, failed=True)
    if answer.has_redirect_location:
        place = one_line(answer.headers["Location"])
        raise Refused(f"{url} redirects to {place}, which is not followed; name the server itself")
    raise Refused(f"{url} answers {reason}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` (RFC 9110, section 10.2.3) asks for.

    A date is compared with that of the answer, so that the clocks may differ. More than
    ``LONGEST_RETRY_AFTER_S`` is cut to it.

    Returns:
        None if there is none that can be read.
    """
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            now = _date(headers["Date"]) if "Date" in headers else datetime.now(UTC)
            seconds = (_date(value) - now).total_seconds()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def one_line(text: str) -> str:
    """What a server wrote, fit for a terminal."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else "?" for one in line[:MOST_CHARACTERS])


def _date(text: str) -> datetime:
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _detail(answer: httpx2.Response) -> str:
    """What an answer says of an error: a problem's detail, a plain error, or its text."""
    try:
        members = from_json(answer.content)
    except ValueError:
        members = None
    text = answer.text
    if isinstance(members, dict):
        text = str(members.get("detail") or members.get("error") or text)
    return one_line(text) or answer.reason_phrase
