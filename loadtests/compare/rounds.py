"""Which case gets the next round, until all are settled or the time is up."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from vimserve.loadtests.compare.intervals import LEAST_ROUNDS
from vimserve.loadtests.compare.results import Case

# The first case gets all rounds at first, for at most this part of the time.
FIRST_SHARE = 0.5


def take_rounds(
    cases: Sequence[Case],
    play: Callable[[Case], float],
    settled: Callable[[Case], bool],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Play rounds of the ``cases`` until all are settled or no further one fits in the time.

    Args:
        cases: the most important one first.
        play: plays a round of a case and returns how many seconds the round itself took.
        settled: whether a case needs no more rounds.
        seconds: for everything.
        clock: seconds from any fixed moment on.
    """
    end = clock() + seconds
    taken: dict[Case, list[float]] = defaultdict(list)
    while (left := end - clock()) > 0:
        fitting = [case for case in cases if not settled(case) and expected_s(case, taken) <= left]
        if not fitting:
            return
        if fitting[0] == cases[0] and left > (1 - FIRST_SHARE) * seconds:
            case = cases[0]
        else:
            case = min(fitting, key=lambda case: _claim_s(case, taken))
        taken[case].append(play(case))


def order(models: Sequence[str], number: int) -> Sequence[str]:
    """In which order the models take their turns in a round: there and back, so that a machine that
    gets faster or slower favours none.
    """
    return models[::-1] if number % 2 else models


def expected_s(case: Case, taken: dict[Case, list[float]]) -> float:
    """How long a round is going to take: as earlier ones, or, an image each, as long as other
    cases of that size do, of which all or none are of backbones. 0 if nothing is known.
    """
    if taken[case]:
        return statistics.fmean(taken[case])
    alike = (
        statistics.fmean(seconds) / other.images
        for other, seconds in taken.items()
        if seconds and (other.size, other.backbone) == (case.size, case.backbone)
    )
    return case.images * max(alike, default=0.0)


def _claim_s(case: Case, taken: dict[Case, list[float]]) -> float:
    """The less of it, the sooner a case gets its next round: what it needs for the least number of
    rounds, or what it has had if that is more. So results come as soon as they can, and a case that
    does not settle keeps no other from its rounds for ever.
    """
    return max(sum(taken[case]), LEAST_ROUNDS * expected_s(case, taken))
