"""Loops that decide when requests are sent: closed ones and open ones."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.mix import Request

Send = Callable[..., Coroutine[Any, Any, Outcome]]


async def closed_loop(
    send: Send, draw: Callable[[], Request], clients: int, seconds: float, most: int
) -> tuple[float, list[Outcome]]:
    """Let each client send its next request as soon as it has its answer, and no new one once
    ``seconds`` have passed or ``most`` have been sent.

    Returns:
        Answers per second and how every request ended.
    """
    start = time.monotonic()
    sent = 0
    outcomes: list[Outcome] = []

    async def client() -> None:
        nonlocal sent
        while time.monotonic() < start + seconds and sent < most:
            sent += 1
            outcomes.append(await send(draw()))

    await asyncio.gather(*(client() for _ in range(clients)))
    answered = sum(outcome.status == 200 for outcome in outcomes)
    return answered / (time.monotonic() - start), outcomes


async def open_loop(
    send: Send, draw: Callable[[], Request], arrivals: Sequence[float]
) -> list[Outcome]:
    """Send at ``arrivals``, in seconds from now, whether or not earlier requests have ended.

    Returns:
        One outcome for each arrival, once all requests have ended.
    """
    start = time.monotonic()
    tasks: list[asyncio.Task[Outcome]] = []
    async with asyncio.TaskGroup() as group:
        for due_s in arrivals:
            await asyncio.sleep(max(start + due_s - time.monotonic(), 0))
            tasks.append(group.create_task(send(draw(), start, due_s)))
    return [task.result() for task in tasks]


def poisson(rate: float, seconds: float, most: int, seed: int) -> list[float]:
    """Random times of arrival, independent of each other: ``rate`` a second, ``most`` at most."""
    choice = random.Random(seed)  # noqa: S311, it must repeat
    arrivals: list[float] = []
    time_s = choice.expovariate(rate)
    while time_s < seconds and len(arrivals) < most:
        arrivals.append(time_s)
        time_s += choice.expovariate(rate)
    return arrivals
