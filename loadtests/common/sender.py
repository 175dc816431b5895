"""When requests are sent."""

import time
from collections.abc import Sequence
from typing import Self

import aiohttp

from vimserve.loadtests.common import checks
from vimserve.loadtests.common.checks import Outcome, Scores
from vimserve.loadtests.common.client import classify
from vimserve.loadtests.common.mix import Mix, Request


class Sender:
    """Sends requests and judges the answers.

    Args:
        connections: to the server.
        classes: of its default model.
        mix: whose pool the requests are of.
        references: the right scores of its pictures.
    """

    def __init__(
        self,
        connections: aiohttp.ClientSession,
        classes: int,
        mix: Mix,
        references: Sequence[Scores],
    ) -> None:
        self._connections = connections
        self._classes = classes
        self._mix = mix
        self._references = references
        self._count = 0

    @classmethod
    async def of(cls, connections: aiohttp.ClientSession, mix: Mix) -> Self:
        """One that takes for right what every picture gets from the server alone.

        Raises:
            RuntimeError: if one is refused.
            aiohttp.ClientError, OSError: if the server cannot be reached.
        """
        async with connections.get("/v1/models") as models:
            classes = int((await models.json())["models"][0]["classes"])
        references: list[Scores] = []
        for index in range(len(mix.pool)):
            answer = await classify(connections, mix.single(index), classes, "reference")
            if answer is None or answer.status != 200:
                raise RuntimeError(f"a picture that is to be a reference was refused: {answer}")
            references += checks.scores(answer)
        return cls(connections, classes, mix, references)

    async def send(self, request: Request, start: float | None = None, due_s: float = 0) -> Outcome:
        """How a request ends that was due ``due_s`` after ``start``, by default now."""
        sent = time.monotonic()
        start = sent if start is None else start
        self._count += 1
        name = f"soak-{self._count}"
        status = slug = fault = None
        try:
            answer = await classify(self._connections, request, self._classes, name)
            if answer is not None:
                status, slug = answer.status, checks.slug(answer)
                seconds = time.monotonic() - sent
                fault = checks.fault(request, name, answer, seconds, self._references)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = f"no answer: {error!r}"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fault = f"an answer that cannot be read: {error!r}"
        return Outcome(
            kind=request.kind,
            side=max((self._mix.pool[index].side for index in request.pictures), default=0),
            due_s=due_s,
            lag_s=sent - start - due_s,
            latency_s=time.monotonic() - start - due_s,
            timeout_s=request.timeout_ms / 1000,
            status=status,
            slug=slug,
            fault=fault,
        )
