"""Times calls on a GPU by its own clock."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

import torch

Call = Callable[[], object]

LEAST_RUNS, MOST_RUNS = 3, 100
SECONDS = 0.1
GRAPH_MS = 2.0  # of work in one graph, so that its launch does not count
MOST_IN_GRAPH = 20
COPY_BYTES = 2**30
ROTATED_BYTES = 2**28  # more than any L2 cache


def median_ms(calls: Sequence[Call], seconds: float = SECONDS) -> float:
    """Median milliseconds of one call. The calls take turns; each should use memory of its own.

    Every call has its own pair of events. All are recorded before the host waits for any, so that
    the device does not idle between the two events of a call while the host prepares work.
    """
    turns = itertools.cycle(calls)
    for _ in range(max(2, len(calls))):
        next(turns)()
    (first,) = _times(turns, 1)
    runs = int(1e3 * seconds / max(first, 1e-3))
    return statistics.median(_times(turns, min(max(runs, LEAST_RUNS), MOST_RUNS)))


def kernel_ms(calls: Sequence[Call], seconds: float = SECONDS) -> float:
    """Median milliseconds of one call without the host's part: they are replayed as one graph."""
    for call in calls:
        call()
    (first,) = _times(itertools.cycle(calls), 1)
    rounds = -(-min(max(int(GRAPH_MS / max(first, 1e-3)), 1), MOST_IN_GRAPH) // len(calls))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in [*calls] * rounds:
            call()
    return median_ms([graph.replay], seconds) / (rounds * len(calls))


def copies_needed(bytes_each: int) -> int:
    """How many sets of operands of this size must take turns so that no cache holds them."""
    return max(1, -(-ROTATED_BYTES // max(bytes_each, 1)))


def copy_bytes_per_s() -> float:
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / (1e-3 * median_ms([lambda: target.copy_(source)]))


def peak_bytes(call: Call) -> int:
    """How far the peak of the device's memory during a call lies above what was held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _times(turns: Iterator[Call], runs: int) -> list[float]:
    torch.cuda.synchronize()
    events = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        next(turns)()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]
