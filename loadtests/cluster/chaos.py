"""A hard day of a cluster: it grows, loses a replica, gets new weights and shrinks, under load."""

import asyncio
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil

from vimserve.loadtests.cluster.overhead import CLUSTER
from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.client import open_session, scrape, values
from vimserve.loadtests.common.mix import Mix
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.common.server import ServerProcess, serving
from vimserve.model import catalog

LOST = "replica-lost"
# Longer than any event takes, on a machine that does much else.
PATIENCE_S = 600.0
TIMEOUT_MS, MISSING_S = 60_000, 60.0
SCALING = ("--replicas", "1-2", "--scale-seconds", "0.2", "--scale-down-after", "5")
UPDATED = "is as it was asked for now"


class Day:
    """Events, each of which is over when there are as many replicas as there should be.

    Args:
        server: a cluster.
        session: of the same.
        weights: the file that its replicas serve.
    """

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession, weights: Path):
        self._server = server
        self._process = psutil.Process(server.pid)
        self._session = session
        self._weights = weights

    async def until_there_are(self, number: int, what: str) -> None:
        """Wait for so many replicas, and print how long it took.

        Raises:
            TimeoutError: it takes too long.
        """
        await self._until(lambda count: count == number, f"{what}, replicas: {number}")

    async def kill(self) -> None:
        """SIGKILL a replica, and wait until there is another one in its place."""
        children = self._process.children(recursive=True)
        next(one for one in children if one.cmdline()[0].startswith("ray::ServeReplica")).kill()
        await self.until_there_are(1, "killed")
        await self.until_there_are(2, "replaced")

    async def renew(self) -> None:
        """Have both replicas read their weights anew, one after the other."""
        self._weights.touch()
        before = self._server.log.count(UPDATED)
        self._process.send_signal(signal.SIGHUP)
        await self._until(lambda _: self._server.log.count(UPDATED) == before + 2, "updated")

    async def _until(self, condition: Callable[[int], bool], what: str) -> None:
        start = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while not condition(await self._count()):
                await asyncio.sleep(0.1)
        print(f"{what}, after {time.monotonic() - start:.1f} s", flush=True)

    async def _count(self) -> int:
        return len(values(await scrape(self._session), "vimserve_cluster_queue_seconds"))


def live_through(seed: int, clients: int) -> bool:
    """Print what happened and how all requests ended; False if one ended as it must not.

    Raises:
        RuntimeError: the cluster does not start.
        TimeoutError: an event does not happen.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "demo.safetensors")
        weights.write_bytes(Path(str(catalog.resolve("demo").source)).read_bytes())
        model = f"demo={weights}?resolution=256&fit=contain"
        with serving(["--model", model, *SCALING], CLUSTER) as server:
            outcomes = asyncio.run(_live(server, weights, seed, clients))
    lost = sum(one.slug == LOST for one in outcomes)
    wrong = Counter(one.wrong for one in outcomes if one.wrong and one.slug != LOST)
    print(
        f"{len(outcomes)} requests of {clients} clients: {dict(Counter(o.end for o in outcomes))}"
    )
    print(f"lost with the replica that was killed: {lost}; wrong: {dict(wrong) or 'none'}")
    return not wrong and lost <= clients


async def _live(server: ServerProcess, weights: Path, seed: int, clients: int) -> list[Outcome]:
    mix, outcomes, over = Mix(seed, TIMEOUT_MS), list[Outcome](), asyncio.Event()
    async with open_session(server.url) as session:
        sender, day = await Sender.of(session, mix, MISSING_S), Day(server, session, weights)

        async def client() -> None:
            while not over.is_set():
                outcomes.append(await sender.send(mix.draw()))

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
            await day.until_there_are(2, "grown")
            await day.kill()
            await day.renew()
            over.set()
        await day.until_there_are(1, "shrunk")
    return outcomes
