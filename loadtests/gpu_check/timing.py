"""Times calls on a GPU by its own clock."""

import itertools
import statistics
import time
from collections.abc import Callable

import torch

WARM_UPS = 5
LEAST_RUNS = 20
LEAST_SECONDS = 0.2
COPY_BYTES = 2**30
ROTATED_BYTES = 2**28  # more than any L2 cache


def median_ms(calls: list[Callable[[], object]], least_seconds: float = LEAST_SECONDS) -> float:
    """Median milliseconds of one call. The calls take turns; each should use memory of its own.

    Every call has its own pair of events. All are recorded before the host waits for any, so that
    the device does not idle between the two events of a call while the host prepares work.
    """
    turns = itertools.cycle(calls)
    for _ in range(max(WARM_UPS, len(calls))):
        next(turns)()
    torch.cuda.synchronize()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < LEAST_RUNS or time.perf_counter() - begin < least_seconds:
        events = []
        for _ in range(LEAST_RUNS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            next(turns)()
            end.record()
            events.append((start, end))
        torch.cuda.synchronize()
        times += [start.elapsed_time(end) for start, end in events]
    return statistics.median(times)


def kernel_ms(calls: list[Callable[[], object]]) -> float:
    """Median milliseconds of one call without the host's part: they are replayed as one graph."""
    repeated = calls * -(-LEAST_RUNS // len(calls))
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in repeated:
            call()
    return median_ms([graph.replay]) / len(repeated)


def copies_needed(bytes_each: int) -> int:
    """How many sets of operands of this size must take turns so that no cache holds them."""
    return max(1, -(-ROTATED_BYTES // max(bytes_each, 1)))


def copy_bytes_per_s() -> float:
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / (1e-3 * median_ms([lambda: target.copy_(source)]))
