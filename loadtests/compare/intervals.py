"""How well a median is known, from repeated measurements alone."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
# As few measurements have an interval of that confidence: six fall on one side of their median's
# true value with a chance of 2 / 2⁶.
LEAST_ROUNDS = 6
# An interval of at most so much on either side of its middle is narrow enough to stop measuring,
NARROW = 0.03
# and one of more than this is no result.
WIDEST = 0.1


@dataclass(frozen=True)
class Estimate:
    """A median, and how far it can be believed.

    Attributes:
        median: of the undisturbed measurements, or of all if all were disturbed.
        low: lower end of its interval; of a median that is no result, of the measurements' range.
        high: the upper end.
        count: how many undisturbed measurements there are.
        doubt: why it is no result; empty if it is one.
    """

    median: float
    low: float
    high: float
    count: int
    doubt: str = ""

    @property
    def half_width(self) -> float:
        """Of the interval, relative to its middle."""
        return (self.high - self.low) / (self.high + self.low)

    @property
    def narrow(self) -> bool:
        """Whether there is no use in measuring on."""
        return not self.doubt and self.half_width <= NARROW


def median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """The narrowest pair of order statistics, as far from one end as from the other, that holds
    the true median with this confidence; None if there are too few values.

    Nothing is assumed of how the values are distributed: each is below the true median with a
    chance of one half, so how many are is binomial.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while (more := outside + 2 * math.comb(count, rank) / 2**count) <= 1 - confidence:
        outside, rank = more, rank + 1
    return (ordered[rank - 1], ordered[-rank]) if rank else None


def estimate(quiet: Sequence[float], disturbed: Sequence[float] = ()) -> Estimate | None:
    """What is known of a positive figure; None if it was not measured.

    Args:
        quiet: measurements on an undisturbed machine, which alone can make a result.
        disturbed: the others.
    """
    everything = [*quiet, *disturbed]
    if not everything:
        return None
    interval = median_interval(quiet)
    if interval is None:
        if disturbed:
            doubt = "disturbed"
        else:
            doubt = f"{len(quiet)} rounds only" if len(quiet) > 1 else "one round only"
        median = statistics.median(quiet or disturbed)
        return Estimate(median, min(everything), max(everything), len(quiet), doubt)
    found = Estimate(statistics.median(quiet), *interval, len(quiet))
    if found.half_width <= WIDEST:
        return found
    return Estimate(found.median, found.low, found.high, found.count, "unstable")
