"""The engine driven directly: a gate in the model holds the device while requests pile up."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from itertools import pairwise

import torch

from tests.patience import PATIENCE_S
from vimserve.model.batch import PackedBatch
from vimserve.model.served import Answers
from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.request import Image
from vimserve.server.engine.runner import Pass
from vimserve.server.engine.urgency import Urgency
from vimserve.server.telemetry.metrics import Metrics

FAR = float("inf")
SOMETIME = Urgency(0, FAR, priority=5)


def image(seed, height=32, width=32):
    pixels = torch.randint(
        256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return packed(pixels)


def packed(pixels):
    batch = PackedBatch.from_images([pixels])
    return Image(tuple(pixels.shape[1:]), batch, len(batch.patches) + 1)


async def started(*specs, **settings):
    engine = Engine(specs, ServerConfig(**settings), Metrics())
    engine.start()
    while engine.state is State.LOADING:
        await asyncio.sleep(0.001)
    assert engine.failure is None
    return engine


@asynccontextmanager
async def running(*specs, **settings):
    engine = await started(*specs, **settings)
    yield engine
    await engine.stop(PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):  # a loader whose waiter gave up is not waited for
        while engine.alive:
            await asyncio.sleep(0.001)


def submit(engine, *images, model="tiny", timeout_s=FAR, priority=5):
    urgency = Urgency(time.monotonic(), timeout_s, priority)
    with engine.room(engine.models.loaded(model), urgency) as room:
        room.take([one.tokens for one in images])
        return engine.submit(room, images)


async def reach_device(model):
    await asyncio.to_thread(model.wait_for_batch)


async def hold(engine, model):
    """Keep the device busy with a first image until the model's gate opens."""
    forget_warm_up(model)
    model.gate.clear()
    futures = submit(engine, image(0))
    await reach_device(model)
    return futures


def images_of(batch):
    ends = batch.cu_seqlens.tolist()
    return [batch.patches[i:j] for i, j in pairwise(ends)]


def forget_warm_up(model):
    model.batches.clear()
    while model.entered.acquire(blocking=False):
        pass


class Launched(Pass):
    """A pass on a GPU that is not there: it ends, or fails, when ``end`` is set."""

    def __init__(self, images, name, log):
        super().__init__(Answers.of_scores(torch.zeros(len(images), 7)))
        self.end = threading.Event()
        self.failure: Exception | None = None
        self._name = name
        self._log = log
        log.append(f"start {name}")

    @property
    def done(self):
        return self.end.is_set()

    def wait(self):
        assert self.end.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure

    def outputs(self):
        outputs = super().outputs()
        self._log.append(f"end {self._name}")
        return outputs


class Gpu:
    """Runs a model's batches in the place of its runner; ``log`` has their starts and ends."""

    def __init__(self, monkeypatch, engine, model="tiny"):
        self.log: list[str] = []
        self._launched: list[Launched] = []
        self._seen = 0
        self._started = threading.Semaphore(0)
        monkeypatch.setattr(engine.loaded(model).runner, "start", self._start)

    def _start(self, images):
        launched = Launched(images, len(self._launched), self.log)
        self._launched.append(launched)
        self._started.release()
        return launched

    async def launch(self):
        """The next pass, once it is launched."""
        assert await asyncio.to_thread(self._started.acquire, timeout=PATIENCE_S)
        self._seen += 1
        return self._launched[self._seen - 1]
