"""When requests are sent."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.mix import Request

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
