"""Ways to choose the replica of a request; one of them is the cluster's own router."""

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Protocol

from vimserve.loadtests.cluster_simulation.replica import Replica
from vimserve.loadtests.mixed_sizes.policies import MODEL, Clock
from vimserve.server.cluster.routing import Report, Router

Replicas = Mapping[str, Replica]


class Policy(Protocol):
    """Chooses replicas for the requests of one ingress."""

    def order(self, tokens: int) -> Iterator[str]:
        """The replicas to ask for a request, best first."""

    def sent(self, replica: str, tokens: int) -> None:
        """Note that a request was sent."""

    def report(self, report: Report) -> None:
        """Take what a replica says of itself."""

    def forget(self, replica: str) -> None:
        """Note that a replica is gone."""


class ByTokens:
    """The cluster's router."""

    def __init__(self, clock: Clock, _replicas: Replicas, choice: random.Random) -> None:
        self._router = Router(clock, choice=choice)
        self.sent, self.report = self._router.sent, self._router.report
        self.forget = self._router.forget

    def order(self, tokens: int) -> Iterator[str]:
        """The replicas to ask for a request, best first."""
        return iter(self._router.rank(MODEL, tokens))


class AtRandom:
    """Any replica, as likely as any other."""

    def __init__(self, _clock: Clock, replicas: Replicas, choice: random.Random) -> None:
        self._replicas = replicas
        self._choice = choice

    def order(self, tokens: int) -> Iterator[str]:  # noqa: ARG002
        """The replicas to ask for a request."""
        names = [*self._replicas]
        while names:
            yield names.pop(self._choice.randrange(len(names)))

    def sent(self, replica: str, tokens: int) -> None:
        """It does not matter here."""

    def report(self, report: Report) -> None:
        """It does not matter here."""

    def forget(self, replica: str) -> None:
        """It does not matter here."""


class ByRequests(AtRandom):
    """Of two replicas at random, the one with fewer requests in flight.

    It knows their number at once and from all ingresses, which is better than any real router does.
    """

    def order(self, tokens: int) -> Iterator[str]:
        """The replicas to ask for a request, best first."""
        others = super().order(tokens)
        two = islice(others, 2)
        yield from sorted(two, key=lambda name: self._replicas[name].in_flight)
        yield from others


POLICIES: dict[str, Callable[[Clock, Replicas, random.Random], Policy]] = {
    "tokens": ByTokens,
    "requests": ByRequests,
    "random": AtRandom,
}
