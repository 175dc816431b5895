"""Ways to choose a number of threads take turns beside a disturbance."""

import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from vimserve.loadtests.contention import passes
from vimserve.loadtests.contention.disturb import Disturbance, busy_processes, quota_group

LONGEST_TURN_S = 600
ONE, ALL, ADAPTED = "one thread", "all threads", "adapted"


@dataclass(frozen=True)
class Turn:
    """Passes of one way in one round: their seconds, and the threads of each."""

    seconds: Sequence[float]
    threads: Sequence[int]

    @property
    def mean_s(self) -> float:
        """Of a pass, trials of other numbers of threads included."""
        return statistics.mean(self.seconds)


@dataclass
class Compared:
    """All turns of all ways at one size beside one disturbance, by round."""

    disturbance: Disturbance
    pixels: int
    turns: dict[str, list[Turn]] = field(default_factory=lambda: {ONE: [], ALL: [], ADAPTED: []})

    def mean_ms(self, way: str) -> float:
        """Of a pass: the median of the rounds' means."""
        return 1e3 * statistics.median(turn.mean_s for turn in self.turns[way])

    def ratios(self, way: str, to: str) -> list[float]:
        """The time of one way in that of another, round by round."""
        pairs = zip(self.turns[way], self.turns[to], strict=True)
        return [turn.mean_s / other.mean_s for turn, other in pairs]

    def threads(self, way: str) -> float:
        """Mean number of threads of a pass."""
        return statistics.mean(used for turn in self.turns[way] for used in turn.threads)


def compare(
    model: str, pixels: int, disturbance: Disturbance, rounds: int, seconds: float
) -> Compared:
    """Measure one size beside one disturbance.

    One process loads the model once, and the ways take turns in it; every round begins with another
    one. What the adapting way has learnt it keeps from round to round.

    Args:
        model: its name in the catalog.
        pixels: side of the image.
        disturbance: what else shall happen meanwhile.
        rounds: turns of every way.
        seconds: least time of a turn.

    Raises:
        OSError: if a quota is wanted and no control group may be made.
    """
    compared = Compared(disturbance, pixels)
    cores = len(os.sched_getaffinity(0))
    ways: list[tuple[str, int | None]] = [(ONE, 1), (ALL, cores), (ADAPTED, None)]
    with ExitStack() as stack:
        group = None
        if disturbance.quota is not None:
            group = stack.enter_context(quota_group(disturbance.quota))
        spawn = multiprocessing.get_context("spawn")
        loading = (model, pixels, group)
        process = stack.enter_context(
            ProcessPoolExecutor(1, spawn, initializer=passes.load, initargs=loading)
        )
        for _, threads in ways:  # one pass each, to allocate and to start the threads
            process.submit(passes.loop, threads, 0).result(LONGEST_TURN_S)
        stack.enter_context(busy_processes(disturbance.busy))
        for number in range(rounds):
            first = number % len(ways)
            for way, threads in [*ways[first:], *ways[:first]]:
                job = process.submit(passes.loop, threads, seconds)
                compared.turns[way].append(Turn(*job.result(LONGEST_TURN_S)))
    return compared
