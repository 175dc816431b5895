"""Clients of all kinds: patient, slow, and those that hang up."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Self

import aiohttp

from vimserve.loadtests.common import checks
from vimserve.loadtests.common.checks import Answer, Outcome, Scores
from vimserve.loadtests.common.mix import Mix, Request

PIECES = 10


async def classify(
    session: aiohttp.ClientSession, request: Request, classes: int, name: str, missing_s: float
) -> Answer | None:
    """Send ``request`` and wait for the scores of ``classes`` classes.

    Args:
        session: of the server.
        request: to send, in the manner that it says.
        classes: of the server's default model.
        name: to send as X-Request-Id.
        missing_s: how long after its deadline the answer is still waited for.

    Returns:
        The answer, or None if the client hung up before, as the request says.

    Raises:
        TimeoutError: if no answer comes in time.
        aiohttp.ClientError, OSError: if the connection fails.
        ValueError: if the answer is not JSON.
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
        no_limit = aiohttp.ClientTimeout(total=None)  # there is one below
        async with session.post(path, data=body, headers=headers, timeout=no_limit) as response:
            answer = await response.json(content_type=None)
            return Answer(response.status, response.headers.copy(), answer)

    limit = request.timeout_ms / 1000 + missing_s
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
    # If more was declared than there is, the body never ends: the answer or the client ends it.
    await asyncio.sleep(0 if part == 1 and seconds else math.inf)


class Sender:
    """Sends requests and judges the answers.

    Args:
        session: of the server.
        classes: of its default model.
        mix: whose pool the requests are of.
        references: the right scores of the pool's pictures.
        missing_s: how long after its deadline an answer is still waited for.

    Attributes:
        known: references, those of each of the weights that may answer now.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        classes: int,
        mix: Mix,
        references: Sequence[Scores],
        missing_s: float,
    ) -> None:
        self._session = session
        self._classes = classes
        self._mix = mix
        self.known = [references]
        self._missing_s = missing_s
        self._count = 0

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, mix: Mix, missing_s: float) -> Self:
        """A sender whose references are what the server answers to one picture at a time.

        Raises:
            RuntimeError: if a picture is refused.
            aiohttp.ClientError, OSError: if the server cannot be reached.
        """
        async with session.get("/v1/models") as models:
            classes = int((await models.json())["models"][0]["classes"])
        references: list[Scores] = []
        for index in range(len(mix.pool)):
            request = mix.single(index)
            answer = await classify(session, request, classes, "reference", missing_s)
            if answer is None or answer.status != 200:
                raise RuntimeError(f"a picture that is to be a reference was refused: {answer}")
            references += checks.scores(answer)
        return cls(session, classes, mix, references, missing_s)

    async def send(self, request: Request, start: float | None = None, due_s: float = 0) -> Outcome:
        """Send a request and judge what comes of it.

        Args:
            request: to send now.
            start: of the load, on the monotonic clock; by default now.
            due_s: when the request was to be sent, in seconds from the start.
        """
        sent = time.monotonic()
        start = sent if start is None else start
        self._count += 1
        name = f"soak-{self._count}"
        status = slug = wrong = None
        known = [*self.known]
        try:
            answer = await classify(self._session, request, self._classes, name, self._missing_s)
            if answer is not None:
                status, slug = answer.status, checks.slug(answer)
                seconds = time.monotonic() - sent
                faults = [
                    checks.what_is_wrong(request, name, answer, seconds, references)
                    for references in (*known, *self.known)
                ]
                wrong = None if None in faults else faults[0]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            wrong = f"no answer: {error!r}"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong = f"an answer that cannot be read: {error!r}"
        return Outcome(
            kind=request.kind,
            side=max((self._mix.pool[index].side for index in request.pictures), default=0),
            due_s=due_s,
            lag_s=sent - start - due_s,
            latency_s=time.monotonic() - start - due_s,
            timeout_s=request.timeout_ms / 1000,
            status=status,
            slug=slug,
            wrong=wrong,
        )
