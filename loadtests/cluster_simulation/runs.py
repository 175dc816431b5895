"""Runs at a steady load."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from vimserve.loadtests.cluster_simulation.arrivals import arrive
from vimserve.loadtests.cluster_simulation.cluster import Cluster
from vimserve.loadtests.mixed_sizes.simulate import Device
from vimserve.loadtests.mixed_sizes.trace import Arrival

# What arrives before so many reports does not count: queues are short, and little has been learnt.
WARM_UP_REPORTS = 4
REPORT_S = 0.5
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Run:
    """The figures of a run.

    Attributes:
        rate: requests per second.
        percentiles_s: the latencies that 50, 95 and 99 % of the answers do not exceed.
        busy: the share of the time for which replicas compute, on average.
        images_per_batch: on average.
        unanswered: the share that was refused by all replicas or not answered in time.
    """

    rate: float
    percentiles_s: Sequence[float]
    busy: float
    images_per_batch: float
    unanswered: float


def run(
    device: Device,
    sizes: Sequence[Arrival],
    policy: str,
    *,
    replicas: int,
    load: float,
    images: int,
    ingresses: int = 1,
    report_s: float = REPORT_S,
    seed: int = 0,
) -> Run:
    """Let images arrive at a steady rate.

    Args:
        device: of each replica.
        sizes: of the images.
        policy: by which ingresses choose replicas.
        replicas: how many there are.
        load: the rate, in multiples of what all replicas keep up with if their batches are full.
        images: how many arrive.
        ingresses: how many there are.
        report_s: seconds between two reports of a replica.
        seed: of everything that is left to chance.
    """
    rate = load * replicas * device.throughput(sizes)
    cluster = Cluster(device, policy, ingresses=ingresses, report_s=report_s, seed=seed)
    started = [cluster.start() for _ in range(replicas)]
    choice = random.Random(f"arrivals {seed}")  # noqa: S311, it must repeat
    begin_s = report_s  # all have reported by then
    cluster.run(islice(arrive(sizes, lambda _: rate, begin_s, TIMEOUT_S, choice), images))
    lasted_s = images / rate
    outcome = cluster.outcome
    return Run(
        rate,
        outcome.percentiles_s(begin_s + WARM_UP_REPORTS * report_s),
        sum(one.busy_s for one in started) / (replicas * lasted_s),
        sum(one.answered for one in started) / sum(one.batches for one in started),
        outcome.unanswered,
    )
