"""Waiting no longer than the client does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from vimserve.server.config import ServerConfig
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import RequestTimeout, UploadTimeout
from vimserve.server.http.uploads import read_uploads
from vimserve.server.images.source import EncodedImage

T = TypeVar("T")


async def exchange(
    request: Request,
    urgency: Urgency,
    config: ServerConfig,
    work: Callable[[list[EncodedImage]], Coroutine[Any, Any, T]],
) -> T:
    """What ``work`` makes of the request's images, within the request's time.

    Raises:
        ClientDisconnect: the client hung up.
        UploadTimeout, RequestTimeout: the images or the result were not there in time.
        BadRequest: as ``read_uploads``.
    """
    images = await _receive(request, urgency, config.max_body_bytes, config.max_images)
    return await _finish(request, work(images), urgency)


async def _receive(
    request: Request, urgency: Urgency, max_bytes: int, max_images: int
) -> list[EncodedImage]:
    """The request's images.

    Raises:
        ClientDisconnect: the client hung up.
        UploadTimeout: they were not there in time.
        BadRequest: as ``read_uploads``.
    """
    try:
        async with asyncio.timeout(urgency.left_s):
            return await read_uploads(request, max_bytes, max_images)
    except TimeoutError as error:
        limit = urgency.timeout_s
        raise UploadTimeout(
            f"the body did not arrive within {limit:g} s", limit=limit, value=limit
        ) from error


async def _finish(request: Request, work: Coroutine[Any, Any, T], urgency: Urgency) -> T:
    """The result of ``work``, which is cancelled when the client leaves or time is up.

    The request's body must have been read: what it receives then is the client's departure.

    Raises:
        ClientDisconnect: the client hung up.
        RequestTimeout: its time passed.
    """
    task = asyncio.ensure_future(work)
    departure = asyncio.ensure_future(request.receive())
    try:
        done, _ = await asyncio.wait(
            {task, departure},
            timeout=urgency.left_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if task in done:
            return task.result()
        if departure in done:
            raise ClientDisconnect
        limit = urgency.timeout_s
        raise RequestTimeout(f"no answer within {limit:g} s", limit=limit, value=limit)
    finally:
        departure.cancel()
        task.cancel()
