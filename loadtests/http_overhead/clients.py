"""Clients of the server that use little of the processor, for a process of their own."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

from vimserve.loadtests.common.client import open_session


@dataclass(frozen=True)
class Driven:
    """What the server did, from the first request to the last answer.

    Attributes:
        images: that were answered.
        seconds: that it took.
        cpu_s: the processor time of all clients together.
        latencies_s: of every answer, with the number of its body among the bodies.
    """

    images: int
    seconds: float
    cpu_s: float
    latencies_s: list[tuple[int, float]]


def drive(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Driven:
    """Post ``bodies`` in turn from so many clients, each of which waits for its answer.

    It ends when ``seconds`` have passed and every body has been sent.

    Raises:
        RuntimeError: if the status of an answer is not 200.
        aiohttp.ClientError, TimeoutError: if a connection fails.
    """
    return asyncio.run(_drive(url, path, bodies, connections, seconds, dict(headers)))


async def _drive(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    headers: Mapping[str, str],
) -> Driven:
    async with open_session(url) as session:
        cpu, start = time.process_time(), time.perf_counter()
        numbers = count()
        latencies_s: list[tuple[int, float]] = []

        async def client() -> None:
            while (number := next(numbers)) < len(bodies) or time.perf_counter() < start + seconds:
                index, sent = number % len(bodies), time.perf_counter()
                async with session.post(path, data=bodies[index], headers=headers) as answer:
                    text = await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{path} answered {answer.status}: {text[:500]!r}")
                latencies_s.append((index, time.perf_counter() - sent))

        await asyncio.gather(*(client() for _ in range(connections)))
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        return Driven(len(latencies_s), seconds, cpu_s, latencies_s)
