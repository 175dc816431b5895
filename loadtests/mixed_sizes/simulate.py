"""Replays a trace on a device that is only simulated: nothing sleeps, and every run is the same."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vimserve.loadtests.mixed_sizes.policies import POLICIES, Clock, Job, Limits, Policy
from vimserve.loadtests.mixed_sizes.trace import Arrival
from vimserve.server.engine.urgency import Urgency

PATCH = 16
PERCENTILES = (50, 95, 99)
# Standard deviation of the logarithm of a batch's time.
NOISE = 0.05


@dataclass(frozen=True)
class Device:
    """A device that takes ``max(floor, launch + Σ (per_image + per_token · n))`` seconds.

    The sum is over a batch's images of n tokens; ``batch_tokens`` is what the server lets a batch
    have on such a device.
    """

    batch_tokens: int
    launch: float
    per_image: float
    per_token: float
    floor: float = 0.0

    def seconds(self, lengths: Sequence[int]) -> float:
        """Of a batch whose images have ``lengths`` tokens."""
        work = self.per_image * len(lengths) + self.per_token * sum(lengths)
        return max(self.floor, self.launch + work)

    def capacity(self, arrivals: Sequence[Arrival]) -> float:
        """Images per second that it keeps up with, one at a time."""
        return 1 / statistics.fmean(self.seconds([tokens(arrival)]) for arrival in arrivals)

    def throughput(self, arrivals: Sequence[Arrival]) -> float:
        """Images per second that it keeps up with if its batches are full."""
        images = self.batch_tokens / statistics.fmean(tokens(arrival) for arrival in arrivals)
        work = self.per_image * images + self.per_token * self.batch_tokens
        return images / max(self.floor, self.launch + work)


# The CPU is two cores with AVX2 and the demo model, fitted to 1,519 random batches. The GPU is an
# H100 and Vim-Ti without graphs, rounded from loadtests/results/2026-11-26-h100: what its launches
# take, until it is full.
DEVICES = {
    "cpu": Device(8192, launch=7.2e-3, per_image=0.45e-3, per_token=11.3e-6),
    "gpu": Device(65_536, launch=2e-3, per_image=0.0, per_token=0.4e-6, floor=12e-3),
}


@dataclass(frozen=True)
class Simulated:
    """How one policy dealt with a trace.

    Attributes:
        latencies_s: seconds from arrival to answer, of all that were answered in time.
        expired: how many were admitted, but not answered in time.
        refused: how many were not admitted.
        batches: how many there were.
    """

    latencies_s: list[float]
    expired: int
    refused: int
    batches: int

    @property
    def percentiles_s(self) -> list[float]:
        """The latencies that 50, 95 and 99 % of the answers do not exceed."""
        return np.percentile(self.latencies_s, PERCENTILES).tolist()

    @property
    def answered(self) -> float:
        """The share of the images that was answered."""
        return len(self.latencies_s) / (len(self.latencies_s) + self.expired + self.refused)

    @property
    def expired_of_admitted(self) -> float:
        """The share of the admitted images that was not answered in time."""
        return self.expired / (len(self.latencies_s) + self.expired)


class Station:
    """A device with its queue and the batch that it runs.

    Args:
        device: how long it takes.
        policy: the queue.
        choice: of the noise on the device's times.

    Attributes:
        batch: what it runs; empty if it is idle.
        seconds: that the batch takes.
        until: when the batch ends.
    """

    def __init__(self, device: Device, policy: Policy, choice: random.Random) -> None:
        self._device = device
        self._policy = policy
        self._choice = choice
        self.batch: list[Job] = []
        self.seconds = 0.0
        self.until = 0.0

    def add(self, job: Job) -> bool:
        """Let the job wait; False if it is refused."""
        return self._policy.add(job)

    def begin(self, now: float) -> bool:
        """Begin with the next batch; False if nothing waits."""
        self.batch = self._policy.next()
        if self.batch:
            self.seconds = self._device.seconds([job.tokens for job in self.batch])
            self.seconds *= self._choice.lognormvariate(0, NOISE)
            self.until = now + self.seconds
        return bool(self.batch)

    def end(self) -> list[Job]:
        """End the batch and return it."""
        batch, self.batch = self.batch, []
        self._policy.ran(batch, self.seconds)
        return batch


def tokens(arrival: Arrival) -> int:
    """Length of the image's sequence, with the class token."""
    return arrival.height // PATCH * (arrival.width // PATCH) + 1


def simulate(
    device: Device,
    arrivals: Sequence[Arrival],
    make: Callable[[Limits, Clock], Policy],
    load: float,
    *,
    timeout_s: float,
    queue_tokens: int,
    seed: int = 0,
) -> Simulated:
    """Let the images arrive, and run what the policy chooses.

    Args:
        device: what runs them.
        arrivals: the trace.
        make: makes the policy.
        load: how fast they arrive, in multiples of the device's capacity.
        timeout_s: seconds after which nobody waits for an image any more.
        queue_tokens: most tokens that may wait.
        seed: of the noise on the device's times.
    """
    gap_s = 1 / (load * device.capacity(arrivals))
    jobs = [
        Job(
            index,
            (arrival.height, arrival.width),
            tokens(arrival),
            Urgency(arrival.at * gap_s, timeout_s, priority=5),
        )
        for index, arrival in enumerate(arrivals)
    ]
    now = 0.0
    policy = make(Limits(device.batch_tokens, queue_tokens), lambda: now)
    station = Station(device, policy, random.Random(seed))  # noqa: S311, it must repeat
    latencies_s: list[float] = []
    arrived = admitted = batches = 0
    while True:
        if station.begin(now):
            until = station.until
        elif arrived < len(jobs):
            until = jobs[arrived].urgency.arrived
        else:
            return Simulated(
                latencies_s, admitted - len(latencies_s), len(jobs) - admitted, batches
            )
        while arrived < len(jobs) and jobs[arrived].urgency.arrived <= until:
            now = jobs[arrived].urgency.arrived
            admitted += station.add(jobs[arrived])
            arrived += 1
        now = until
        if station.batch:
            latencies = [now - job.urgency.arrived for job in station.end()]
            latencies_s += [latency_s for latency_s in latencies if latency_s <= timeout_s]
            batches += 1


def compare(
    device: Device,
    arrivals: Sequence[Arrival],
    loads: Sequence[float],
    *,
    timeout_s: float,
    queue_tokens: int,
) -> dict[float, dict[str, Simulated]]:
    """What each policy makes of the same trace, by load and by the policy's name."""
    return {
        load: {
            name: simulate(
                device, arrivals, make, load, timeout_s=timeout_s, queue_tokens=queue_tokens
            )
            for name, make in POLICIES.items()
        }
        for load in loads
    }


def excess(of: str, simulated: dict[str, Simulated]) -> list[float]:
    """A policy's percentiles of latency as multiples of the best of the others."""
    best = [
        min(times)
        for times in zip(
            *(one.percentiles_s for name, one in simulated.items() if name != of), strict=True
        )
    ]
    return [own / other for own, other in zip(simulated[of].percentiles_s, best, strict=True)]


def table(compared: dict[float, dict[str, Simulated]]) -> str:
    """The latencies in milliseconds, beside their multiples of the best of the other policies."""
    lines = [
        f"{'load':<7}{'':<15}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'of the best other':^22}"
        f"{'a batch':>8}{'answered':>10}{'expired of admitted':>21}"
    ]
    for load, simulated in compared.items():
        for name, one in simulated.items():
            lines.append(
                f"{load:<7g}{name:<15}"
                + "".join(f"{seconds * 1e3:>9.0f}" for seconds in one.percentiles_s)
                + "  "
                + "".join(f"{multiple:>6.2f}" for multiple in excess(name, simulated))
                + f"{len(one.latencies_s) / one.batches:>10.1f}{one.answered:>10.1%}"
                f"{one.expired_of_admitted:>21.2%}"
            )
    return "\n".join(lines)
