"""The engine driven directly: a gate in the model holds the device while requests pile up."""

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import pairwise

import torch

from vimserve.model.batch import PackedBatch
from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.request import Image
from vimserve.server.engine.urgency import Urgency
from vimserve.server.telemetry.metrics import Metrics

FAR = float("inf")


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
async def running(*specs, drain_s=10, **settings):
    engine = await started(*specs, **settings)
    yield engine
    await engine.stop(drain_s)
    assert not engine.alive


def submit(engine, *images, model="tiny", timeout_s=FAR, priority=5):
    with engine.room(engine.models.loaded(model)) as room:
        for one in images:
            room.take(one.tokens)
        return engine.submit(room, images, Urgency(time.monotonic(), timeout_s, priority))


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
