"""Routing by tokens against two choices by requests in flight, real and simulated.

The same two replicas, router and images of mixed sizes; only the choice differs. The simulation
gets the same arrivals and the costs of the batches that the replicas ran.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import aiohttp
import numpy as np
import psutil

from vimserve.loadtests.cluster import routers
from vimserve.loadtests.cluster.fit import fit
from vimserve.loadtests.cluster.trace_load import Answer, Load
from vimserve.loadtests.cluster_simulation.arrivals import arrive
from vimserve.loadtests.cluster_simulation.cluster import Cluster
from vimserve.loadtests.common.client import open_session, scrape, values
from vimserve.loadtests.common.server import READY_S, ServerProcess, serving
from vimserve.loadtests.mixed_sizes.policies import Job
from vimserve.loadtests.mixed_sizes.simulate import PERCENTILES, Device
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read
from vimserve.model.tables import spread
from vimserve.server.cluster.standing import EVERY_S

LOADS = (0.5, 0.8, 0.95)
BY = ("tokens", "requests")
REPLICAS = 2
FLAGS = ("--model", "demo", "--replicas", str(REPLICAS), "--threads", "1")
# At once, to see what the replicas keep up with: their batches are full.
CLIENTS = 32
TIMEOUT_S = 60.0
# After a router was exchanged, until it has heard of the replicas.
HEARD_S = 1.0
# What arrives so early in a turn does not count.
WARM_UP_S = 4.0


@dataclass(frozen=True)
class Turn:
    """What one way to choose made of a sequence of images.

    Attributes:
        by: the way.
        load: in multiples of what the replicas keep up with.
        number: of the round.
        jobs: the images.
        answers: to them; None where all replicas refused.
    """

    by: str
    load: float
    number: int
    jobs: Sequence[Job]
    answers: Sequence[Answer | None]

    @property
    def percentiles_s(self) -> list[float]:
        """The latencies that 50, 95 and 99 % of the answers do not exceed."""
        latencies = [
            answer.latency_s
            for job, answer in zip(self.jobs, self.answers, strict=True)
            if answer is not None and job.urgency.arrived >= WARM_UP_S
        ]
        return np.percentile(latencies, PERCENTILES).tolist()


def compare(rounds: int, seconds: float, seed: int) -> None:
    """Print what the replicas keep up with, and the latencies at parts of it.

    Args:
        rounds: turns of each way to choose at each load, in reverse order in every other one.
        seconds: of a turn.
        seed: of the arrivals.

    Raises:
        RuntimeError: the cluster does not start, or an answer is wrong.
        TimeoutError: the second replica does not start.
    """
    trace = read(TRACE)
    with serving(FLAGS, routers.COMMAND) as server:
        turns = asyncio.run(_measure(server, trace, rounds, seconds, seed))
    print(f"\n{'load':>5}{'by':>10}{'':>11}" + "".join(f"{f'p{p} ms':>26}" for p in PERCENTILES))
    for load in LOADS:
        having = [turn for turn in turns if turn.load == load]
        answers = [answer for turn in having for answer in turn.answers if answer is not None]
        device = fit(answer.batch for answer in answers)
        way_s = statistics.median(one.latency_s - one.lag_s - one.device_s for one in answers)
        for by in BY:
            mine = [turn for turn in having if turn.by == by]
            print(_row(load, by, "real", [turn.percentiles_s for turn in mine]))
            simulated = [_simulate(device, turn, way_s / 2) for turn in mine]
            print(_row(load, by, "simulated", simulated), flush=True)
        print(_notes(device, way_s, having, answers))


async def _measure(
    server: ServerProcess, trace: Sequence[Arrival], rounds: int, seconds: float, seed: int
) -> list[Turn]:
    async with open_session(server.url) as session:
        async with asyncio.timeout(READY_S):
            while len(values(await scrape(session), "vimserve_cluster_queue_seconds")) < REPLICAS:
                await asyncio.sleep(HEARD_S)
        load = Load(session, trace)
        await load.get_references()
        began, before = time.monotonic(), _cpu_seconds(server)
        capacity = await load.capacity(CLIENTS, WARM_UP_S, seconds, seed)
        lasted_s, after = time.monotonic() - began, _cpu_seconds(server)
        used = ", ".join(f"{name} {(after[name] - before[name]) / lasted_s:.2f}" for name in before)
        print(f"{REPLICAS} replicas of one thread keep up with {capacity:.1f} images/s")
        print(f"processors that this takes: {used}", flush=True)
        turns = []
        for number in range(rounds):
            for part in LOADS:
                jobs = _jobs(trace, part * capacity, seconds, f"{seed} {number} {part}")
                order = BY if number % 2 == 0 else BY[::-1]
                turns += [await _turn(session, load, by, part, number, jobs) for by in order]
        return turns


def _jobs(trace: Sequence[Arrival], rate: float, seconds: float, seed: str) -> list[Job]:
    choice = random.Random(seed)  # noqa: S311, it must repeat
    jobs = arrive(trace, lambda _: rate, 0.0, TIMEOUT_S, choice)
    return [*takewhile(lambda job: job.urgency.arrived < seconds, jobs)]


async def _turn(
    session: aiohttp.ClientSession,
    load: Load,
    by: str,
    part: float,
    number: int,
    jobs: Sequence[Job],
) -> Turn:
    async with session.post(routers.PATH + by) as answer:
        answer.raise_for_status()
    await asyncio.sleep(HEARD_S)
    return Turn(by, part, number, jobs, await load.open(jobs))


def _simulate(device: Device, turn: Turn, hop_s: float) -> list[float]:
    cluster = Cluster(
        device, turn.by, report_s=EVERY_S, hop_s=hop_s, begin=-HEARD_S, seed=turn.number
    )
    for _ in range(REPLICAS):
        cluster.start()
    cluster.run(turn.jobs)
    return cluster.outcome.percentiles_s(WARM_UP_S)


def _cpu_seconds(server: ServerProcess) -> dict[str, float]:
    """Of processor time, by what has used them."""
    router = psutil.Process(server.pid)
    seconds = {"replicas": 0.0, "router": _seconds(router), "clients": _seconds(psutil.Process())}
    seconds["Ray"] = 0.0
    for one in router.children(recursive=True):
        name = "replicas" if one.cmdline()[0].startswith("ray::ServeReplica") else "Ray"
        seconds[name] += _seconds(one)
    return seconds


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _row(load: float, by: str, what: str, rounds: Sequence[Sequence[float]]) -> str:
    columns = [[1e3 * seconds for seconds in column] for column in zip(*rounds, strict=True)]
    return f"{load:>5g}{by:>10}{what:>11}" + "".join(f"{spread(one):>26}" for one in columns)


def _notes(device: Device, way_s: float, turns: Sequence[Turn], answers: Sequence[Answer]) -> str:
    sent = sum(len(turn.jobs) for turn in turns)
    lag_s = np.percentile([one.lag_s for one in answers], PERCENTILES[-1])
    return (
        f"{sent} images, {sent - len(answers)} refused; a batch took {device.launch * 1e3:.1f} ms "
        f"+ {device.per_image * 1e3:.2f} ms an image + {device.per_token * 1e6:.1f} µs a token, "
        f"give or take {device.noise:.0%}; {way_s * 1e3:.1f} ms outside queue and device; "
        f"{statistics.fmean(1 / one.batch.images for one in answers) ** -1:.1f} images a batch; "
        f"sent at most {lag_s * 1e3:.1f} ms late (99 %)"
    )
