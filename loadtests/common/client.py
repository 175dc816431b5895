"""A client that may be slow, or leave."""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from vimserve.loadtests.common.mix import Request

# What an answer may take beyond the request's own timeout until it counts as missing.
GRACE_S = 10.0
PIECES = 10
KEEP_ALIVE_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What came back; ``body`` is what its JSON says."""

    status: int
    headers: Mapping[str, str]
    body: Any


def session(url: str) -> aiohttp.ClientSession:
    """Connections to a server, as many as there are requests at once.

    They are given up long before the server would, so that none is closed while it is used.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    timeout = aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(url, connector=connector, timeout=timeout)


async def classify(
    connections: aiohttp.ClientSession, request: Request, classes: int, name: str
) -> Answer | None:
    """The answer to ``request`` with the scores of ``classes`` classes, or None if its client
    left before.

    Raises:
        TimeoutError: no answer in time.
        aiohttp.ClientError, OSError, ValueError: the connection failed, or it was no JSON.
    """
    headers = {
        "X-Request-Id": name,
        "X-Request-Priority": str(request.priority),
        "X-Request-Timeout-Ms": str(request.timeout_ms),
    }
    body: Any
    if request.form:
        body = aiohttp.FormData()
        for index, data in enumerate(request.data):
            body.add_field("file", data, filename=str(index))
    else:
        (data,) = request.data
        body = data
        if request.upload_s or request.declared_bytes:
            headers["Content-Length"] = str(request.declared_bytes or len(data))
            body = _trickle(data, request.upload_s, request.sent)
        headers["Content-Type"] = "application/octet-stream"

    async def exchange() -> Answer:
        path = f"/v1/classify?top_k={classes}&{request.query}"
        async with connections.post(path, data=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            return Answer(response.status, response.headers.copy(), answer)

    limit = request.timeout_ms / 1000 + GRACE_S
    try:
        async with asyncio.timeout(request.hang_up_s or limit):
            return await exchange()
    except TimeoutError:
        if request.hang_up_s is None:
            raise
        return None


async def _trickle(data: bytes, seconds: float, part: float) -> AsyncGenerator[bytes, None]:
    end = round(len(data) * part)
    step = math.ceil(end / PIECES)
    for start in range(0, end, step):
        yield data[start : min(start + step, end)]
        await asyncio.sleep(seconds / PIECES)
    # Whoever declares more than there is never ends; the answer, or the client, ends it.
    await asyncio.sleep(0 if part == 1 and seconds else math.inf)
