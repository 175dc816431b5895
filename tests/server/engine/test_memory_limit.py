"""A process whose address space is limited for real, once its model is loaded."""

import subprocess
import sys

# Enough for the memory arenas of a few more threads, far too little for the largest image.
HEADROOM = 300 * 2**20
SCRIPT = f"""
import asyncio, resource, time
import torch
from vimserve.model.catalog import resolve
from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.request import Image
from vimserve.server.telemetry.metrics import Metrics
from vimserve.server.engine.urgency import Urgency

async def main():
    engine = Engine(
        [resolve("demo")], ServerConfig(max_resolution=8192, max_batch_tokens=300_000), Metrics()
    )
    engine.start()
    while engine.state is State.LOADING:
        await asyncio.sleep(0.01)
    runner = engine.loaded("demo").runner

    def image(side):
        pixels = torch.zeros(3, side, side, dtype=torch.uint8)
        return Image((side, side), runner.pack(pixels), runner.tokens(side, side))

    images = [*(image(512) for _ in range(20)), image(8192)]
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {HEADROOM},) * 2)
    with engine.room(engine.loaded("demo")) as room:
        answers = engine.submit(room, images, Urgency(time.monotonic(), 60, 5))
    for answer in await asyncio.gather(*answers, return_exceptions=True):
        print(type(answer).__name__)
    await engine.probe(10)
    print(engine.health().detail)
    await engine.stop(10)

asyncio.run(main())
"""


def test_only_what_does_not_fit_alone_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["Answer"] * 20 + ["OutOfMemory", "alive"], done.stderr
