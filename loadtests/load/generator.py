"""When requests are sent."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

import aiohttp

from vimserve.loadtests.load import checks
from vimserve.loadtests.load.checks import Outcome, Scores
from vimserve.loadtests.load.client import classify
from vimserve.loadtests.load.mix import Mix, Request


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


Send = Callable[..., Coroutine[Any, Any, Outcome]]


async def closed_loop(
    send: Send, draw: Callable[[], Request], clients: int, seconds: float
) -> tuple[float, list[Outcome]]:
    """Each client sends its next request when it has its answer.

    Returns:
        Answers per second and how everything ended.
    """
    start = time.monotonic()
    end = start + seconds
    outcomes: list[Outcome] = []

    async def client() -> None:
        while time.monotonic() < end:
            outcomes.append(await send(draw()))

    await asyncio.gather(*(client() for _ in range(clients)))
    answered = sum(outcome.status == 200 for outcome in outcomes)
    return answered / (time.monotonic() - start), outcomes


async def open_loop(
    send: Send, draw: Callable[[], Request], arrivals: Sequence[float]
) -> list[Outcome]:
    """Send at ``arrivals``, seconds from now, whatever became of the requests before.

    Returns:
        One outcome for each.
    """
    start = time.monotonic()
    tasks: list[asyncio.Task[Outcome]] = []
    async with asyncio.TaskGroup() as group:
        for due_s in arrivals:
            await asyncio.sleep(max(start + due_s - time.monotonic(), 0))
            tasks.append(group.create_task(send(draw(), start, due_s)))
    return [task.result() for task in tasks]


def poisson(rate: float, seconds: float, most: int, seed: int) -> list[float]:
    """Times of arrivals at ``rate`` a second that know nothing of each other, ``most`` at most."""
    choice = random.Random(seed)  # noqa: S311, it must repeat
    arrivals: list[float] = []
    time_s = choice.expovariate(rate)
    while time_s < seconds and len(arrivals) < most:
        arrivals.append(time_s)
        time_s += choice.expovariate(rate)
    return arrivals
