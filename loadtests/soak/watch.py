"""Watches the server's memory and its device, second by second."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from vimserve.loadtests.common.client import scrape, values
from vimserve.loadtests.common.process import usage

EVERY_S = 1.0
WINDOW_S = 5.0


@dataclass(frozen=True)
class Snapshot:
    """The server at one moment.

    Attributes:
        time_s: from the start.
        busy_s: for how long the busiest device had run batches.
        waiting: images in the queues.
        resident_bytes: memory of the process; None where that is not known.
    """

    time_s: float
    busy_s: float
    waiting: float
    resident_bytes: int | None


async def watch(session: aiohttp.ClientSession, pid: int | None, snapshots: list[Snapshot]) -> None:
    """Add a snapshot every ``EVERY_S`` until cancelled, but none while the server gives none."""
    start = time.monotonic()
    for due in itertools.count(0, EVERY_S):
        await asyncio.sleep(max(start + due - time.monotonic(), 0))
        try:
            samples = await scrape(session)
            resident_bytes = None if pid is None else usage(pid).resident_bytes
        except (aiohttp.ClientError, OSError):
            continue
        snapshots.append(
            Snapshot(
                time.monotonic() - start,
                max(values(samples, "vimserve_device_busy_seconds_total"), default=0),
                sum(values(samples, "vimserve_queue_depth")),
                resident_bytes,
            )
        )


def growth_per_minute(snapshots: Sequence[Snapshot]) -> float | None:
    """Slope of the straight line through the resident memory of the last half, in MB a minute;
    None for too few snapshots.
    """
    known = [(s.time_s, s.resident_bytes) for s in snapshots if s.resident_bytes is not None]
    half = known[len(known) // 2 :]
    if len(half) < 3:
        return None
    times, sizes = np.array(half).T
    return float(np.polyfit(times / 60, sizes / 1e6, 1)[0])


def busy_shares(snapshots: Sequence[Snapshot]) -> tuple[float, float] | None:
    """The device's share of the time from the first to the last snapshot, and in the idlest
    ``WINDOW_S`` between them; None if the snapshots span less than that.
    """
    windows = []
    for first, last in itertools.combinations(snapshots, 2):
        seconds = last.time_s - first.time_s
        if WINDOW_S - EVERY_S / 2 <= seconds < WINDOW_S + EVERY_S / 2:
            windows.append((last.busy_s - first.busy_s) / seconds)
    if not windows:
        return None
    first, last = snapshots[0], snapshots[-1]
    return (last.busy_s - first.busy_s) / (last.time_s - first.time_s), min(windows)


def saturated(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """From the first to the last snapshot at which images waited, less a tenth at either end."""
    waiting = [index for index, snapshot in enumerate(snapshots) if snapshot.waiting]
    if not waiting:
        return []
    first, last = waiting[0], waiting[-1]
    margin = (last - first) // 10
    return list(snapshots[first + margin : last + 1 - margin])
