"""Intervals of figures over a set of pictures, by drawing from the pictures again and again.

A resample has as many pictures as the set, drawn from it with replacement. The interval is the
bias-corrected percentile one (Efron, Better Bootstrap Confidence Intervals, JASA 1987): where most
resamples' figures are above that of the set, as with average precision over few pictures, it takes
lower ones of them.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
SEED = 0

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def intervals(
    count: int, statistic: Callable[[Ints], Floats], resamples: int
) -> tuple[Floats, Floats]:
    """The lower and the upper ends of the intervals of some figures.

    Args:
        count: of the pictures, at least 1.
        statistic: how often each picture was drawn, int64 ``[count]``, to the figures
            ``[figures]``; nan for those that such a resample does not have.
        resamples: how many.

    Returns:
        Two arrays ``[figures]``; nan where no resample has the figure, and of a single picture,
        which tells nothing of others.
    """
    rng = np.random.default_rng(SEED)
    values = statistic(np.ones(count, np.int64))
    drawn = np.stack(
        [
            statistic(np.bincount(rng.integers(count, size=count), minlength=count))
            for _ in range(resamples)
        ]
    )
    ends = np.full((2, drawn.shape[1]), np.nan)
    for index, (value, column) in enumerate(zip(values, drawn.T, strict=True)):
        known = column[~np.isnan(column)]
        if len(known) and count > 1:
            ends[:, index] = np.quantile(known, places(known, value))
    return ends[0], ends[1]


def places(drawn: Floats, value: float) -> list[float]:
    """Which quantiles of the resamples' figures are the ends, from 0 to 1.

    Args:
        drawn: the resamples' figures ``[resamples]``.
        value: that of the set itself.
    """
    normal, outside = NormalDist(), (1 - CONFIDENCE) / 2
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    least = 1 / len(drawn)  # beyond that so many resamples do not tell
    bias = normal.inv_cdf(min(max(below, least), 1 - least)) if len(drawn) > 1 else 0.0
    return [normal.cdf(2 * bias + normal.inv_cdf(end)) for end in (outside, 1 - outside)]
