"""What the router of a cluster costs, against the single server."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vimserve.loadtests.common.client import open_session
from vimserve.loadtests.common.images import intact
from vimserve.loadtests.common.server import serving
from vimserve.model.tables import spread

CLUSTER = ("vimserve.server", "cluster", "--host", "127.0.0.1", "--port", "0")
PATH = "/v1/classify?resolution=native&fit=contain"


@dataclass(frozen=True)
class Turn:
    """What one server did in one turn.

    Attributes:
        latencies_s: of all requests.
        rate: answers per second.
    """

    latencies_s: Sequence[float]
    rate: float


async def turn(url: str, image: bytes, clients: int, seconds: float) -> Turn:
    """Let each client send its next request when it has its answer.

    Raises:
        RuntimeError: an answer is not 200.
    """
    latencies: list[float] = []
    async with open_session(url) as session:
        start = time.monotonic()

        async def client() -> None:
            while (sent := time.monotonic()) < start + seconds:
                async with session.post(PATH, data=image) as answer:
                    await answer.read()
                    if answer.status != 200:
                        raise RuntimeError(f"{url} has answered {answer.status}")
                latencies.append(time.monotonic() - sent)

        await asyncio.gather(*(client() for _ in range(clients)))
        return Turn(latencies, len(latencies) / (time.monotonic() - start))


def compare(
    flags: Sequence[str], sizes: Sequence[int], clients: int, pairs: int, seconds: float
) -> None:
    """Print latency and throughput of both, which take turns, for pictures of each size.

    Raises:
        RuntimeError: a server does not start or refuses a picture.
    """
    with serving(flags) as alone, serving([*flags, "--replicas", "1"], CLUSTER) as cluster:
        print(f"{'pixels':>8}{'clients':>8}{'':>10}{'p50 ms':>28}{'p99 ms':>28}{'images/s':>28}")
        for size in sizes:
            image = intact(size, size, 0)
            for number in dict.fromkeys((1, clients)):
                turns: dict[str, list[Turn]] = {"alone": [], "cluster": []}
                for url in (alone.url, cluster.url):
                    asyncio.run(turn(url, image, number, 1.0))
                for _ in range(pairs):
                    for name, url in (("alone", alone.url), ("cluster", cluster.url)):
                        turns[name].append(asyncio.run(turn(url, image, number, seconds)))
                for name, those in turns.items():
                    print(f"{size:>8}{number:>8}{name:>10}{_row(those)}", flush=True)


def _row(turns: Sequence[Turn]) -> str:
    medians = [1e3 * statistics.median(one.latencies_s) for one in turns]
    tails = [1e3 * _quantile(one.latencies_s, 0.99) for one in turns]
    return "".join(f"{spread(column):>28}" for column in (medians, tails, [t.rate for t in turns]))


def _quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]
