"""What routing itself costs, measured here, and the messages that a cluster of a size exchanges."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from vimserve.loadtests.mixed_sizes.policies import MODEL
from vimserve.server.cluster.routing import Report, Router

ROUNDS, CALLS = 5, 200
TOKENS, SPEED = 1000, 90_000.0


@dataclass(frozen=True)
class RouterCost:
    """Seconds of one processor.

    Attributes:
        rank_s: to rank all replicas for a request and to note where it was sent.
        report_s: to take a replica's report, without receiving it.
    """

    rank_s: float
    report_s: float


def router_cost(replicas: int) -> RouterCost:
    """Measure a router of so many replicas: the best of some rounds."""
    choice = random.Random(0)  # noqa: S311, it must repeat
    router = Router(lambda: 0.0, choice=choice)
    reports = []
    for number in range(replicas):
        queued = choice.randrange(10 * TOKENS)
        reports.append(Report(f"replica-{number}", {MODEL: SPEED}, queued, queued / SPEED, 0, 0.0))
        router.report(reports[-1])

    def rank() -> None:
        router.sent(router.rank(MODEL, TOKENS)[0], TOKENS)

    def report() -> None:
        one = choice.choice(reports)
        router.report(replace(one, taken=one.taken + 1))

    return RouterCost(_best(rank), _best(report))


def _best(call: Callable[[], None]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(CALLS):
            call()
        seconds.append((time.process_time() - begin) / CALLS)
    return min(seconds)
