"""The server's memory and its device's work, second by second."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Metric

from vimserve.loadtests.common.process import usage

EVERY_S = 1.0
WINDOW_S = 5.0


@dataclass(frozen=True)
class Sample:
    """One look.

    Attributes:
        time_s: from the start.
        busy_s: that the busiest device had run batches.
        waiting: images in the queues.
        resident_bytes: of the process; None where it is not known.
    """

    time_s: float
    busy_s: float
    waiting: float
    resident_bytes: int | None


async def scrape(connections: aiohttp.ClientSession) -> list[Metric]:
    """What ``/metrics`` says."""
    async with connections.get("/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        return [metric for family in families for metric in family.samples]


def values(metrics: Sequence[Metric], name: str, **labels: str) -> list[float]:
    """Those of this name that have these labels, among others."""
    return [
        metric.value
        for metric in metrics
        if metric.name == name and labels.items() <= metric.labels.items()
    ]


async def watch(connections: aiohttp.ClientSession, pid: int | None, samples: list[Sample]) -> None:
    """Add a sample every second, until cancelled; a look that fails is left out."""
    start = time.monotonic()
    for due in itertools.count(0, EVERY_S):
        await asyncio.sleep(max(start + due - time.monotonic(), 0))
        try:
            metrics = await scrape(connections)
        except (aiohttp.ClientError, OSError):
            continue
        samples.append(
            Sample(
                time.monotonic() - start,
                max(values(metrics, "vimserve_device_busy_seconds_total"), default=0),
                sum(values(metrics, "vimserve_queue_depth")),
                None if pid is None else usage(pid).resident_bytes,
            )
        )


def growth_per_minute(samples: Sequence[Sample]) -> float | None:
    """Slope of the straight line through the last half's resident memory, in MB a minute."""
    known = [(s.time_s, s.resident_bytes) for s in samples if s.resident_bytes is not None]
    half = known[len(known) // 2 :]
    if len(half) < 3:
        return None
    times, sizes = np.array(half).T
    return float(np.polyfit(times / 60, sizes / 1e6, 1)[0])


def busy_shares(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Mean share of the time that the device is busy between the first and the last sample, and
    that of the idlest ``WINDOW_S``.
    """
    windows = []
    for first, last in itertools.combinations(samples, 2):
        seconds = last.time_s - first.time_s
        if WINDOW_S - EVERY_S / 2 <= seconds < WINDOW_S + EVERY_S / 2:
            windows.append((last.busy_s - first.busy_s) / seconds)
    if not windows:
        return None
    first, last = samples[0], samples[-1]
    return (last.busy_s - first.busy_s) / (last.time_s - first.time_s), min(windows)


def saturated(samples: Sequence[Sample]) -> list[Sample]:
    """From the first to the last sample at which anything waited, less a tenth at either end."""
    waiting = [index for index, sample in enumerate(samples) if sample.waiting]
    if not waiting:
        return []
    first, last = waiting[0], waiting[-1]
    margin = (last - first) // 10
    return list(samples[first + margin : last + 1 - margin])
