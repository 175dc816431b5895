import asyncio
import os

import pytest

from vimserve.loadtests.common.client import open_session
from vimserve.loadtests.soak import watch
from vimserve.loadtests.soak.report import Report
from vimserve.loadtests.soak.watch import Snapshot, busy_shares, growth_per_minute, saturated


def snapshots(seconds, busy=lambda t: t, waiting=lambda t: 1, size=lambda t: 0):
    return [Snapshot(t, busy(t), waiting(t), size(t)) for t in range(seconds)]


def test_slope_of_the_last_half():
    curve = snapshots(61, size=lambda t: 5e8 if t < 30 else 1e8 + t * 1e6)
    assert growth_per_minute(curve) == pytest.approx(60)
    assert growth_per_minute(snapshots(4)) is None
    assert growth_per_minute([Snapshot(t, 0, 0, None) for t in range(60)]) is None


def test_busy_shares():
    # Idle for the seconds 20 to 22.
    curve = snapshots(41, busy=lambda t: t if t < 20 else max(t - 2, 20))
    mean, lowest = busy_shares(curve)  # type: ignore[misc]
    assert mean == pytest.approx(38 / 40)
    assert lowest == pytest.approx(3 / 5)
    assert busy_shares(curve[:4]) is None


def test_saturated_is_where_something_waits():
    curve = snapshots(60, waiting=lambda t: 10 < t <= 50)
    assert [snapshot.time_s for snapshot in saturated(curve)] == list(range(14, 48))
    assert saturated(snapshots(60, waiting=lambda t: 0)) == []


def test_memory_that_grows_is_a_failure():
    report = Report(1)
    report.add_snapshots(snapshots(200, size=lambda t: t * 1e6))
    assert report.growth_mb_per_minute == pytest.approx(60)
    assert report.failures == ["the memory grew by 100 MB in the last 100 s, the limit is 50"]
    steady = Report(1)
    steady.add_snapshots(snapshots(200, size=lambda t: 1e9 + t % 2 * 1e6))
    assert steady.failures == []
    assert steady.busy == pytest.approx((1, 1))


def test_watches_until_it_is_cancelled(stub, monkeypatch):
    monkeypatch.setattr(watch, "EVERY_S", 0.01)
    seen = []  # type: ignore[var-annotated]

    async def run():
        async with open_session(stub.url) as session:
            watcher = asyncio.create_task(watch.watch(session, os.getpid(), seen))
            while len(seen) < 3:
                await asyncio.sleep(0.01)
            watcher.cancel()

    asyncio.run(run())
    times = [snapshot.time_s for snapshot in seen]
    assert times == sorted(times)
    assert all(later >= 0.01 * number for number, later in enumerate(times))
    assert all(snapshot.resident_bytes > 0 for snapshot in seen)
