"""Replicas that come and go over the day."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from math import ceil
from statistics import fmean

from vimserve.loadtests.cluster_simulation.arrivals import arrive
from vimserve.loadtests.cluster_simulation.cluster import Cluster
from vimserve.loadtests.cluster_simulation.runs import TIMEOUT_S
from vimserve.loadtests.mixed_sizes.simulate import Device
from vimserve.loadtests.mixed_sizes.trace import Arrival
from vimserve.server.cluster.scaling import Scaling

LEAST, MOST, TARGET_S = 1, 4, 0.5
ASKED_EVERY_S = 1.0
# The share of the time for which replicas are busy when a part of the day begins.
AT_FIRST_BUSY = 0.6


@dataclass(frozen=True)
class Part:
    """A part of a day.

    Attributes:
        name: what it is called.
        rate: requests per second at a time of the day, in multiples of what one replica keeps up
            with if its batches are full.
        begin: in seconds after midnight.
        lasts_s: how long it lasts.
    """

    name: str
    rate: Callable[[float], float]
    begin: float
    lasts_s: float


@dataclass(frozen=True)
class Scaled:
    """The figures of a part of a day.

    Attributes:
        rates: requests per second at its begin and at its end.
        replicas: how many ran, in turn.
        mean: how many ran on average.
        percentiles_s: the latencies that 50, 95 and 99 % of the answers do not exceed.
        unanswered: the share that was refused by all replicas or not answered in time.
    """

    rates: tuple[float, float]
    replicas: Sequence[int]
    mean: float
    percentiles_s: Sequence[float]
    unanswered: float


class _Scaler:
    """Starts and stops replicas as the policy wants."""

    def __init__(self, cluster: Cluster, scaling: Scaling, start_up_s: float) -> None:
        self.seen: list[int] = []
        self._cluster = cluster
        self._scaling = scaling
        self._start_up_s = start_up_s
        self._starting = 0

    def ask(self) -> None:
        """Ask how many there should be, now and from now on."""
        if not self._cluster.open:
            return
        running = list(self._cluster.replicas.values())
        self.seen.append(len(running))
        wanted = self._scaling.wanted([one.queued_seconds for one in running], self._cluster.now)
        for _ in range(wanted - len(running) - self._starting):
            self._starting += 1
            self._cluster.after(self._start_up_s, self._started)
        for replica in running[wanted:]:
            self._cluster.stop(replica)
        self._cluster.after(ASKED_EVERY_S, self.ask)

    def _started(self) -> None:
        self._starting -= 1
        self._cluster.start()


def scale(
    device: Device,
    sizes: Sequence[Arrival],
    part: Part,
    start_up_s: float,
    *,
    down_after_s: float = 300.0,
    seed: int = 0,
) -> Scaled:
    """Let a part of a day pass.

    Args:
        device: of each replica.
        sizes: of the images.
        part: of the day.
        start_up_s: seconds from the wish for a replica to its first report.
        down_after_s: as of the policy.
        seed: of everything that is left to chance.
    """
    capacity, end = device.throughput(sizes), part.begin + part.lasts_s
    cluster = Cluster(device, "tokens", begin=part.begin, seed=seed)
    for _ in range(min(ceil(part.rate(part.begin) / AT_FIRST_BUSY), MOST)):
        cluster.start()
    scaler = _Scaler(cluster, Scaling(LEAST, MOST, TARGET_S, down_after_s), start_up_s)
    cluster.after(ASKED_EVERY_S, scaler.ask)
    choice = random.Random(f"arrivals {seed}")  # noqa: S311, it must repeat
    # The first replicas have reported by then.
    jobs = arrive(sizes, lambda at: capacity * part.rate(at), part.begin + 0.1, TIMEOUT_S, choice)
    cluster.run(takewhile(lambda job: job.urgency.arrived < end, jobs))
    return Scaled(
        (capacity * part.rate(part.begin), capacity * part.rate(end)),
        [number for number, _ in groupby(scaler.seen)],
        fmean(scaler.seen),
        cluster.outcome.percentiles_s(),
        cluster.outcome.unanswered,
    )
