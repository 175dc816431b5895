"""What routing itself costs, measured here: to rank replicas, and to hear how all of them are."""

import pickle
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from vimserve.loadtests.mixed_sizes.policies import MODEL
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.routing import Report, Router
from vimserve.server.cluster.standing import EVERY_S, Registry, Standing

ROUNDS, CALLS = 5, 200
TOKENS, SPEED = 1000, 90_000.0


@dataclass(frozen=True)
class RouterCost:
    """Seconds of one processor, without sending anything.

    Attributes:
        rank_s: of a router, to rank all replicas for a request and to note where it was sent.
        tell_s: of the registry, to tell one router how all replicas are.
        hear_s: of a router, to hear it.
    """

    rank_s: float
    tell_s: float
    hear_s: float

    def of_the_registry(self, routers: int) -> float:
        """The share of a processor that so many routers take of the registry's."""
        return routers * self.tell_s / EVERY_S

    def of_a_router(self, requests_per_second: float) -> float:
        """The share of its own that a router takes."""
        return self.hear_s / EVERY_S + requests_per_second * self.rank_s


def router_cost(replicas: int) -> RouterCost:
    """Measure a router and the registry of so many replicas: the best of some rounds."""
    choice = random.Random(0)  # noqa: S311, it must repeat
    router = Router(lambda: 0.0, choice=choice)
    registry = Registry()
    directory = Directory(ClusterMetrics())
    for number in range(replicas):
        name, queued = f"replica-{number}", choice.randrange(10 * TOKENS)
        seconds, models = queued / SPEED, {MODEL: SPEED}
        router.report(Report(name, models, queued, seconds, 0, 0.0))
        registry.publish(Standing(name, "all", name, name, 0, models, queued, seconds, 0))

    def rank() -> None:
        router.sent(router.rank(MODEL, TOKENS)[0], TOKENS)

    def tell() -> bytes:
        return pickle.dumps(registry.standings())

    told = tell()

    def hear() -> None:
        directory.hear(pickle.loads(told))  # noqa: S301, it is our own

    def all_speak() -> None:
        nonlocal told
        for one in registry.standings():
            registry.publish(replace(one, beat=one.beat + 1, taken=one.taken + 1))
        told = tell()

    def nothing() -> None:
        pass

    return RouterCost(_best(rank, nothing, CALLS), _best(tell, nothing), _best(hear, all_speak))


def _best(call: Callable[[], object], before: Callable[[], None], calls: int = 1) -> float:
    seconds = []
    for _ in range(ROUNDS):
        before()
        begin = time.process_time()
        for _ in range(calls):
            call()
        seconds.append((time.process_time() - begin) / calls)
    return min(seconds)
