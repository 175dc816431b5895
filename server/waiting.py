"""Waiting no longer than the client does."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from server.errors import RequestTimeout

T = TypeVar("T")


async def finish(request: Request, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """The result of ``work``, which is cancelled when the client leaves or time is up.

    The request's body must have been read: what it receives then is the client's departure.

    Raises:
        ClientDisconnect: the client hung up.
        RequestTimeout: ``timeout_s`` passed.
    """
    task = asyncio.ensure_future(work)
    departure = asyncio.ensure_future(request.receive())
    try:
        done, _ = await asyncio.wait(
            {task, departure}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if task in done:
            return task.result()
        if departure in done:
            raise ClientDisconnect
        raise RequestTimeout(f"no answer within {timeout_s:g} s", limit=timeout_s, value=timeout_s)
    finally:
        departure.cancel()
        task.cancel()
