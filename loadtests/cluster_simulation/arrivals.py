"""Requests that arrive at random, in the sizes of a recorded trace and at a rate of the day."""

import math
import random
from collections.abc import Callable, Iterator, Sequence

from vimserve.loadtests.mixed_sizes.policies import Job
from vimserve.loadtests.mixed_sizes.simulate import tokens
from vimserve.loadtests.mixed_sizes.trace import Arrival
from vimserve.server.engine.urgency import Urgency

DAY_S = 86_400.0
PEAK_S = 14 * 3600.0
# By how much of the mean the rate is above it at the peak and below it twelve hours later.
SWING = 0.6


def daily(seconds: float) -> float:
    """The rate at so many seconds after midnight, as a multiple of the day's mean."""
    return 1 + SWING * math.cos(2 * math.pi * (seconds - PEAK_S) / DAY_S)


def arrive(
    sizes: Sequence[Arrival],
    rate: Callable[[float], float],
    begin: float,
    timeout_s: float,
    choice: random.Random,
) -> Iterator[Job]:
    """Endless requests of a Poisson process.

    Args:
        sizes: of which each request has one, all equally likely.
        rate: requests per second at a time. It must hardly change between two of them.
        begin: the time at which they begin.
        timeout_s: how long a client waits.
        choice: of gaps and sizes.
    """
    lengths = [(size, tokens(size)) for size in sizes]
    at, index = begin, 0
    while True:
        at += choice.expovariate(rate(at))
        size, length = choice.choice(lengths)
        yield Job(index, (size.height, size.width), length, Urgency(at, timeout_s, priority=5))
        index += 1
