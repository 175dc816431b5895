"""Times on a GPU, by its own clock."""

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
    """Median time of one call; the calls, which should differ in their memory, take turns.

    Every call has its own pair of events, all recorded before the host waits, so that the device
    never idles between the events of one call for want of work that the host still prepares.
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
    """Median time of one call on the device alone: replayed as a graph, the host launches once."""
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
    """How many sets of operands of this size to rotate so that the cache holds none of them."""
    return max(1, -(-ROTATED_BYTES // max(bytes_each, 1)))


def copy_bytes_per_s() -> float:
    """What a device copy moves, reading and writing counted."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / (1e-3 * median_ms([lambda: target.copy_(source)]))
