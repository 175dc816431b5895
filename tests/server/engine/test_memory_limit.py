"""A process whose address space is limited for real, once its model is loaded."""

import asyncio
import resource
import time
from pathlib import Path

import torch

from tests.patience import PATIENCE_S
from tests.processes import in_a_process
from tests.server.engine.driving import started
from vimserve.model.catalog import resolve
from vimserve.server.engine.request import Image
from vimserve.server.engine.urgency import Urgency

# Enough for the memory arenas of a few more threads, far too little for the largest image.
HEADROOM = 300 * 2**20
SIDE = 8192


def answer_within_the_limit():
    """What becomes of 20 small images and a large one, and whether the engine lives on."""
    return asyncio.run(_answer())


async def _answer():
    engine = await started(resolve("demo"), max_resolution=SIDE, max_batch_tokens=300_000)
    loaded = engine.loaded("demo")
    runner = loaded.runner

    def image(side):
        pixels = torch.zeros(3, side, side, dtype=torch.uint8)
        return Image((side, side), runner.pack(pixels), runner.tokens(side, side))

    images = [*(image(512) for _ in range(20)), image(SIDE)]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM,) * 2)
    with engine.room(loaded, Urgency(time.monotonic(), PATIENCE_S, 5)) as room:
        answers = engine.submit(room, images)
    endings = await asyncio.gather(*answers, return_exceptions=True)
    await engine.probe(PATIENCE_S)
    detail = engine.health().detail
    await engine.stop(PATIENCE_S)
    return [type(ending).__name__ for ending in endings], detail


def test_only_what_does_not_fit_alone_is_refused():
    endings, detail = in_a_process(answer_within_the_limit)
    assert endings == ["Answer"] * 20 + ["OutOfMemory"]
    assert detail == "alive"
