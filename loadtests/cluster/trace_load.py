"""Images of a trace's sizes, sent to a cluster as they arrive, and what came back."""

import asyncio
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from vimserve.loadtests.cluster.overhead import PATH
from vimserve.loadtests.common.images import intact
from vimserve.loadtests.mixed_sizes.policies import Job
from vimserve.loadtests.mixed_sizes.trace import Arrival
from vimserve.server.routes.native.classify import fault
from vimserve.server.routes.native.rendering import Result

Size = tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """What a device ran at once, and for how long."""

    images: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """An answer with status 200.

    Attributes:
        latency_s: since the request was due.
        lag_s: by how much it was sent later than that.
        device_s: of the latency, what it waited for the device and what its batch took.
        batch: the one that carried its image.
    """

    latency_s: float
    lag_s: float
    device_s: float
    batch: Batch


class Load:
    """Sends images, and compares each answer with the first one for the same image.

    Args:
        session: of the cluster.
        trace: has all sizes, each as often as it is to be drawn.
    """

    def __init__(self, session: aiohttp.ClientSession, trace: Iterable[Arrival]) -> None:
        self._session = session
        self._sizes = [(one.height, one.width) for one in trace]
        self._images = {size: intact(*size, seed=0) for size in {*self._sizes}}
        self._first: dict[Size, Result] = {}

    async def get_references(self) -> None:
        """Ask for each image once, one after the other.

        Raises:
            RuntimeError: an answer is not 200.
        """
        for size in self._images:
            if await self._ask(size, time.monotonic()) is None:
                raise RuntimeError(f"an image of {size} pixels was refused")

    async def capacity(self, clients: int, warm_up_s: float, seconds: float, seed: int) -> float:
        """Answers per second if each client sends its next image when it has its answer.

        Args:
            clients: how many there are.
            warm_up_s: seconds before those that count.
            seconds: that count.
            seed: of the images' sizes.

        Raises:
            RuntimeError: an answer is wrong, or an error but 429.
        """
        choice = random.Random(seed)  # noqa: S311, it must repeat
        begin = time.monotonic() + warm_up_s
        end, answered = begin + seconds, 0

        async def client() -> None:
            nonlocal answered
            while (sent := time.monotonic()) < end:
                answer = await self._ask(choice.choice(self._sizes), sent)
                answered += answer is not None and begin <= time.monotonic() < end

        await asyncio.gather(*(client() for _ in range(clients)))
        return answered / seconds

    async def open(self, jobs: Sequence[Job]) -> list[Answer | None]:
        """Send each image when it is due, however late earlier answers are; None if refused.

        Raises:
            RuntimeError: an answer is wrong, or an error but 429.
        """
        start = time.monotonic()
        sent = []
        for job in jobs:
            due = start + job.urgency.arrived
            await asyncio.sleep(due - time.monotonic())
            sent.append(asyncio.create_task(self._ask(job.size, due)))
        return [*await asyncio.gather(*sent)]

    async def _ask(self, size: Size, due: float) -> Answer | None:
        began = time.monotonic()
        async with self._session.post(PATH, data=self._images[size]) as response:
            content = await response.read()
        latency_s = time.monotonic() - due
        if response.status == 429:
            return None
        body = json.loads(content)
        if response.status != 200:
            raise RuntimeError(f"an image of {size} pixels got {response.status}: {body}")
        self._compare(size, body["results"][0])
        stages, batch = body["timing_ms"], body["batch"]
        inference_s = stages["inference"] / 1e3
        return Answer(
            latency_s,
            began - due,
            stages["queue"] / 1e3 + inference_s,
            Batch(batch["images"], batch["tokens"], inference_s),
        )

    def _compare(self, size: Size, result: Result) -> None:
        first = self._first.setdefault(size, result)
        if (wrong := fault(result, first, max(size))) is not None:
            raise RuntimeError(f"the answer for an image of {size} pixels is wrong: {wrong}")
