"""Closed-loop clients that leave the processor to the server, for a process of their own."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle, islice

TIMEOUT_S = 120


@dataclass(frozen=True)
class Driven:
    """What the server did, from the first request to the last answer.

    ``cpu_s`` is what the clients themselves burnt, all together.
    """

    images: int
    seconds: float
    cpu_s: float


def drive(
    address: tuple[str, int],
    path: str,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
) -> Driven:
    """Post ``bodies`` in turn over so many connections, each at its answer, for so long.

    Raises:
        RuntimeError: if an answer is not 200.
        OSError, http.client.HTTPException: if a connection fails.
    """
    cpu, start = time.process_time(), time.perf_counter()
    end = start + seconds

    def loop(number: int) -> int:
        connection = HTTPConnection(*address, timeout=TIMEOUT_S)
        try:
            for done, body in enumerate(islice(cycle(bodies), number, None)):
                if time.perf_counter() >= end:
                    return done
                connection.request("POST", path, body)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{path} answered {answer.status}: {text[:500]!r}")
            raise AssertionError("the bodies come round for ever")
        finally:
            connection.close()

    with ThreadPoolExecutor(connections) as clients:
        images = sum(clients.map(loop, range(connections)))
    return Driven(images, time.perf_counter() - start, time.process_time() - cpu)
