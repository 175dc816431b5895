"""Works on a request until it is answered, times out or its client hangs up."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from vimserve.server.config import ServerConfig
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import RequestTimeout, UploadTimeout
from vimserve.server.http.uploads import read_uploads
from vimserve.server.images.source import EncodedImage
from vimserve.server.telemetry.tracing import stage

T = TypeVar("T")


async def exchange(
    request: Request,
    urgency: Urgency,
    config: ServerConfig,
    work: Callable[[list[EncodedImage]], Coroutine[Any, Any, T]],
) -> T:
    """Read the request's images and return the result of ``work`` on them.

    Raises:
        ClientDisconnect: the client hung up.
        UploadTimeout, RequestTimeout: the images or the result did not arrive in time.
        BadRequest: as ``read_uploads``.
    """
    reading = read_uploads(request, config.max_body_bytes, config.max_images)
    images = await receive(reading, urgency)
    return await finish(request, work(images), urgency)


async def receive(reading: Awaitable[T], urgency: Urgency) -> T:
    """What ``reading`` makes of a request's body.

    Raises:
        UploadTimeout: the body did not arrive in time.
    """
    with stage("upload"):
        try:
            async with asyncio.timeout(urgency.left_s):
                return await reading
        except TimeoutError as error:
            limit = urgency.timeout_s
            raise UploadTimeout(
                f"the body did not arrive within {limit:g} s", limit=limit, value=limit
            ) from error


async def in_time(work: Awaitable[T], urgency: Urgency) -> T:
    """The result of ``work``, which is cancelled if the time is up.

    Raises:
        RequestTimeout: the time is up.
    """
    try:
        async with asyncio.timeout(urgency.left_s):
            return await work
    except TimeoutError as error:
        raise _too_late(urgency) from error


async def finish(request: Request, work: Coroutine[Any, Any, T], urgency: Urgency) -> T:
    """The result of ``work``, which is cancelled if the client hangs up or the time is up.

    The request's body must have been read, so that its next message is the disconnect.

    Raises:
        ClientDisconnect: the client hung up.
        RequestTimeout: the time is up.
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
        raise _too_late(urgency)
    finally:
        departure.cancel()
        task.cancel()


def _too_late(urgency: Urgency) -> RequestTimeout:
    limit = urgency.timeout_s
    return RequestTimeout(f"no answer within {limit:g} s", limit=limit, value=limit)
