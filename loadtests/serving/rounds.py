"""The bare model, the server and LitServe take turns on the same images."""

import asyncio
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import psutil

from vimserve.loadtests import litserve
from vimserve.loadtests.common.images import intact
from vimserve.loadtests.common.process import cpu_seconds, descendants, thread_cpu_seconds
from vimserve.loadtests.common.server import ServerProcess, serving
from vimserve.loadtests.http_overhead import bare
from vimserve.loadtests.http_overhead.clients import drive
from vimserve.loadtests.http_overhead.pairs import LONGEST_RUN_S, check
from vimserve.loadtests.mixed_sizes.trace import Arrival

ALONE, PACKED, SERVER, LITSERVE = CONTESTANTS = ("one by one", "packed", "server", "LitServe")
SERVER_PATH = "/v1/classify?resolution=native&fit=contain"
# Threads by their names; all others of a server are its event loop and what belongs to it.
MODEL, DECODE, CLIENTS, OTHERS = PARTS = ("model", "decode", "clients", "others")
# What no program had of the processors' time.
IDLE, STOLEN = LEFT = ("idle", "stolen")
TIMES = (*PARTS, *LEFT)
SMALL_PIXELS = 256**2

Run: TypeAlias = "Callable[[], Turn]"


@dataclass(frozen=True)
class Turn:
    """What one contestant did in one round.

    Attributes:
        contestant: one of ``CONTESTANTS``.
        images_per_second: over all images of its turn.
        cpu_ms: milliseconds of processor time for each image, by ``TIMES``.
        small_ms: median latency of the images of at most ``SMALL_PIXELS``; None without clients,
            or without such images.
    """

    contestant: str
    images_per_second: float
    cpu_ms: dict[str, float]
    small_ms: float | None = None


@dataclass(frozen=True)
class Load:
    """What is run.

    Attributes:
        images: their sizes.
        batch: images in a packed batch of the bare model.
        clients: that send at once.
        rounds: turns of each contestant.
        seconds: least time of a turn.
    """

    images: Sequence[Arrival]
    batch: int
    clients: int
    rounds: int
    seconds: float


def run_rounds(
    name: str, weights: Path | None, load: Load, contestants: Sequence[str]
) -> Iterator[Turn]:
    """Let the contestants take turns, in reverse order in every other round.

    Args:
        name: of the model in the catalog.
        weights: file with its weights; None for those that are embedded.
        load: what is run.
        contestants: some of ``CONTESTANTS``.

    Raises:
        RuntimeError: if a server does not start, or answers other than the bare model.
    """
    files = [intact(one.height, one.width, seed) for seed, one in enumerate(load.images)]
    small = {i for i, one in enumerate(load.images) if one.height * one.width <= SMALL_PIXELS}
    argument = name if weights is None else f"{name}-random={weights}"
    spawn = multiprocessing.get_context("spawn")
    loading = (name, weights, files)
    with ExitStack() as stack:
        model = stack.enter_context(
            ProcessPoolExecutor(1, spawn, initializer=bare.load, initargs=loading)
        )
        client = stack.enter_context(ProcessPoolExecutor(1, spawn))
        scores = model.submit(bare.scores).result(LONGEST_RUN_S)

        def loop(contestant: str, batch: int) -> Turn:
            left = _left_s()
            looped = model.submit(bare.loop, batch, load.seconds).result(LONGEST_RUN_S)
            used = {MODEL: looped.cpu_s} | _since(left, _left_s())
            cpu_ms = {part: 1e3 * seconds / looped.images for part, seconds in used.items()}
            return Turn(contestant, looped.images / looped.seconds, cpu_ms)

        def ask(contestant: str, url: str, pid: int, path: str) -> Turn:
            before, left = _cpu_s(pid), _left_s()
            job = client.submit(drive, url, path, files, load.clients, load.seconds)
            driven = job.result(LONGEST_RUN_S)
            used = _since(left, _left_s()) | _since(before, _cpu_s(pid)) | {CLIENTS: driven.cpu_s}
            waits = [seconds for index, seconds in driven.latencies_s if index in small]
            return Turn(
                contestant,
                driven.images / driven.seconds,
                {part: 1e3 * seconds / driven.images for part, seconds in used.items()},
                1e3 * statistics.median(waits) if waits else None,
            )

        def serve(contestant: str, server: AbstractContextManager[ServerProcess], path: str) -> Run:
            running = stack.enter_context(server)
            asyncio.run(check(running.url, path, files, scores))
            return lambda: ask(contestant, running.url, running.pid, path)

        flags = ["--model", argument]
        begin: dict[str, Callable[[], Run]] = {
            ALONE: lambda: partial(loop, ALONE, 1),
            PACKED: lambda: partial(loop, PACKED, load.batch),
            SERVER: lambda: serve(SERVER, serving(flags), SERVER_PATH),
            LITSERVE: lambda: serve(
                LITSERVE, serving(flags, litserve.COMMAND, litserve.READY), litserve.PATH
            ),
        }
        turns = [begin[contestant]() for contestant in contestants]
        for turn in turns:  # whatever is compiled or allocated at first
            turn()
        for number in range(load.rounds):
            for turn in turns if number % 2 == 0 else reversed(turns):
                yield turn()


def _since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {part: seconds - before[part] for part, seconds in after.items()}


def _left_s() -> dict[str, float]:
    """Processor time since the machine's start that nobody used, and that its hypervisor took."""
    times = psutil.cpu_times()
    waiting, stolen = (getattr(times, name, 0.0) for name in ("iowait", "steal"))  # Linux has them
    return {IDLE: times.idle + waiting, STOLEN: stolen}


def _cpu_s(pid: int) -> dict[str, float]:
    """Processor time of a server with all its processes, by ``PARTS``."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for process in (pid, *descendants(pid)):
        threads = thread_cpu_seconds(process)
        for name, used in threads.items():
            seconds[name if name in PARTS else OTHERS] += used
        # Of a server's threads those that run the model's passes end and begin.
        seconds[MODEL] += cpu_seconds(process) - sum(threads.values())
    return seconds
