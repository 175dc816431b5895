"""Replicas, ingresses and what goes between them, in simulated time."""

import dataclasses
import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from vimserve.loadtests.cluster_simulation.policies import POLICIES, Policy
from vimserve.loadtests.cluster_simulation.replica import Replica
from vimserve.loadtests.mixed_sizes.policies import Job
from vimserve.loadtests.mixed_sizes.simulate import PERCENTILES, Device

# From an ingress to a replica and back, each way.
HOP_S = 2e-3
QUEUE_TOKENS = 131_072


@dataclass
class Outcome:
    """What became of requests.

    Attributes:
        arrived: how many there were.
        answered: when each that was answered in time arrived, and the seconds until its answer.
        refused: how many no replica took.
    """

    arrived: int = 0
    answered: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0

    @property
    def unanswered(self) -> float:
        """The share that was refused or not answered in time."""
        return 1 - len(self.answered) / self.arrived

    def percentiles_s(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """The latencies that 50, 95 and 99 % of the answers do not exceed.

        Args:
            begin: only of requests that arrived from then on.
            end: and before then.
        """
        latencies = [seconds for at, seconds in self.answered if begin <= at < end]
        return np.percentile(latencies, PERCENTILES).tolist() if latencies else [0.0] * 3


class Cluster:
    """Replicas behind ingresses, each of which routes a random share of the requests.

    Args:
        device: of each replica.
        policy: a name in ``POLICIES``.
        ingresses: how many there are. None of them sees what the others send.
        report_s: seconds between two reports of a replica, which all ingresses get.
        hop_s: seconds from an ingress to a replica, and as many back.
        seed: of everything that is left to chance.

    Attributes:
        now: the simulated time in seconds.
        replicas: those that get requests, by name.
        outcome: what became of the requests.
    """

    def __init__(
        self,
        device: Device,
        policy: str,
        *,
        ingresses: int = 1,
        report_s: float = 0.5,
        hop_s: float = HOP_S,
        begin: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.now = begin
        self.replicas: dict[str, Replica] = {}
        self.outcome = Outcome()
        self._device = device
        self._report_s = report_s
        self._hop_s = hop_s
        self._choice = random.Random(seed)  # noqa: S311, it must repeat
        self._policies = [
            POLICIES[policy](lambda: self.now, self.replicas, self._choice)
            for _ in range(ingresses)
        ]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._names = count()
        self._open = True

    def start(self) -> Replica:
        """Add a replica, which reports at once."""
        name = f"replica-{next(self._names)}"
        replica = Replica(name, self._device, QUEUE_TOKENS, lambda: self.now, self._choice)
        self.replicas[name] = replica
        self._report(replica)
        # Otherwise all that start together would go on reporting together.
        self.after(self._choice.uniform(0, self._report_s), lambda: self._report_on(replica))
        return replica

    def stop(self, replica: Replica) -> None:
        """Send no more requests to a replica; it answers those that it has."""
        del self.replicas[replica.name]
        for policy in self._policies:
            policy.forget(replica.name)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._number), action))

    def run(self, jobs: Iterable[Job]) -> None:
        """Let requests arrive, and wait for their answers."""
        for job in jobs:
            self._advance(job.urgency.arrived)
            self.now = job.urgency.arrived
            self.outcome.arrived += 1
            policy = self._choice.choice(self._policies)
            self._ask(policy, policy.order(job.tokens), job)
        self._open = False
        self._advance(float("inf"))

    @property
    def open(self) -> bool:
        """Whether requests still arrive."""
        return self._open

    def _advance(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()

    def _ask(self, policy: Policy, order: Iterator[str], job: Job) -> None:
        name = next(order, None)
        if name is None:
            self.outcome.refused += 1
        elif (replica := self.replicas.get(name)) is None:  # it was stopped meanwhile
            self._ask(policy, order, job)
        else:
            policy.sent(name, job.tokens)
            self.after(self._hop_s, lambda: self._arrive(policy, order, replica, job))

    def _arrive(self, policy: Policy, order: Iterator[str], replica: Replica, job: Job) -> None:
        if not replica.take(job):
            self.after(self._hop_s, lambda: self._ask(policy, order, job))
        elif replica.idle:
            self._begin(replica)

    def _begin(self, replica: Replica) -> None:
        if (until := replica.begin()) is not None:
            self.after(until - self.now, lambda: self._end(replica))

    def _end(self, replica: Replica) -> None:
        for job in replica.end():
            answered = self.now + self._hop_s
            if answered <= job.urgency.deadline:
                latency_s = answered - job.urgency.arrived
                self.outcome.answered.append((job.urgency.arrived, latency_s))
        self._begin(replica)

    def _report_on(self, replica: Replica) -> None:
        if self._open and replica.name in self.replicas:
            self._report(replica)
            self.after(self._report_s, lambda: self._report_on(replica))

    def _report(self, replica: Replica) -> None:
        report = replica.report

        def receive() -> None:
            if replica.name in self.replicas:
                received = dataclasses.replace(report, at=self.now)
                for policy in self._policies:
                    policy.report(received)

        self.after(self._hop_s, receive)
