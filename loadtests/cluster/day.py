"""Events in the life of a cluster, and what becomes of the requests that are sent meanwhile."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.samples import Sample

from vimserve.loadtests.cluster.turned import turn, turned
from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.client import scrape
from vimserve.loadtests.common.mix import Mix
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.common.server import ServerProcess

# Longer than any event takes, on a machine that does much else.
PATIENCE_S = 600.0
LOOK_EVERY_S = 0.2
# For which the load goes on after an event.
AFTER_S = 3.0
# Between two requests of a client, once the cluster is to shrink.
PAUSES_S = (0.5, 1.5)
LOST = "replica-lost"


def became(outcome: Outcome) -> str:
    """What became of a request; ``lost`` is what a replica had when it died."""
    if outcome.slug == LOST:
        return "lost"
    if outcome.wrong:
        return "wrong"
    if outcome.status is None:
        return "hung up"
    return "answered" if outcome.status == 200 else "refused"


@dataclass
class Part:
    """An event.

    Attributes:
        event: what happened.
        outcomes: of the requests that ended from then until the next event.
        notes: what else happened, and when.
    """

    event: str
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """How many requests became what."""
        return Counter(map(became, self.outcomes))


class Day:
    """Events, one after the other, while clients send.

    Args:
        server: a cluster of one to two replicas.
        session: of the same.
        sender: over that session.
        mix: the sender's.
        weights: the file that the replicas serve.

    Attributes:
        parts: what has happened so far.
        over: set once the clients are to end.
    """

    def __init__(
        self,
        server: ServerProcess,
        session: aiohttp.ClientSession,
        sender: Sender,
        mix: Mix,
        weights: Path,
    ) -> None:
        self.parts: list[Part] = []
        self.over = asyncio.Event()
        self._process = psutil.Process(server.pid)
        self._session = session
        self._sender = sender
        self._mix = mix
        self._weights = weights
        self._choice = random.Random(0)  # noqa: S311, of pauses
        self._pausing = False
        self._began = 0.0

    async def client(self) -> None:
        """Send one request after another until the day is over."""
        while not self.over.is_set():
            outcome = await self._sender.send(self._mix.draw())
            self.parts[-1].outcomes.append(outcome)
            if outcome.slug == LOST:
                self._note("one request lost")
            if self._pausing:
                await asyncio.sleep(self._choice.uniform(*PAUSES_S))

    async def grow(self) -> None:
        """Wait until the load has brought a second replica."""
        async with self._event("from 1 to 2 replicas"):
            await self._until(_there_are(2))
            self._note("two replicas")

    async def lose_one(self) -> None:
        """SIGKILL a replica, and wait until there is another one in its place."""
        async with self._event("SIGKILL of a replica"):
            children = self._process.children(recursive=True)
            next(one for one in children if one.cmdline()[0].startswith("ray::ServeReplica")).kill()
            await self._until(_there_are(1))
            self._note("the router knows it")
            await self._until(_there_are(2))
            self._note("two replicas")

    async def renew(self) -> None:
        """Have all replicas serve other weights, one after the other."""
        async with self._event("new weights"):
            (before,) = set(_identities(await scrape(self._session)).values())
            self._sender.known.append(turned(self._sender.known[0]))
            turn(self._weights)
            self._process.send_signal(signal.SIGHUP)

            def renewed(told: Sequence[Sample]) -> list[bool]:
                return [identity != before for identity in _identities(told).values()]

            await self._until(lambda told: any(renewed(told)))
            self._note("the first has them")
            await self._until(lambda told: any(renewed(told)) and all(renewed(told)))
            self._note("all have them")
            del self._sender.known[0]

    async def shrink(self) -> None:
        """Send less, and wait until one replica has ended."""
        self._pausing = True
        async with self._event("from 2 to 1 replica"):
            await self._until(_there_are(1))
            self._note("one replica")

    @asynccontextmanager
    async def _event(self, what: str) -> AsyncIterator[None]:
        self.parts.append(Part(what))
        self._began = time.monotonic()
        yield
        await asyncio.sleep(AFTER_S)

    def _note(self, what: str) -> None:
        part = self.parts[-1]
        part.notes.append(f"{what} after {time.monotonic() - self._began:.1f} s")
        print(f"{part.event}: {part.notes[-1]}", flush=True)

    async def _until(self, condition: Callable[[Sequence[Sample]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition(await scrape(self._session)):
                await asyncio.sleep(LOOK_EVERY_S)


def _identities(told: Sequence[Sample]) -> dict[str, str]:
    """Of the weights that each replica has."""
    return {
        sample.labels["replica"]: sample.labels["identity"]
        for sample in told
        if sample.name == "vimserve_cluster_model_info"
    }


def _there_are(number: int) -> Callable[[Sequence[Sample]], bool]:
    return lambda told: len(_identities(told)) == number
