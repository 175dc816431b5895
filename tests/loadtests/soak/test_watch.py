import pytest

from vimserve.loadtests.soak.report import Report
from vimserve.loadtests.soak.watch import Sample, busy_shares, growth_per_minute, saturated


def samples(seconds, busy=lambda t: t, waiting=lambda t: 1, size=lambda t: 0):
    return [Sample(t, busy(t), waiting(t), size(t)) for t in range(seconds)]


def test_slope_of_the_last_half():
    curve = samples(61, size=lambda t: 5e8 if t < 30 else 1e8 + t * 1e6)
    assert growth_per_minute(curve) == pytest.approx(60)
    assert growth_per_minute(samples(4)) is None
    assert growth_per_minute([Sample(t, 0, 0, None) for t in range(60)]) is None


def test_busy_shares():
    # Idle for the seconds 20 to 22.
    curve = samples(41, busy=lambda t: t if t < 20 else max(t - 2, 20))
    mean, lowest = busy_shares(curve)
    assert mean == pytest.approx(38 / 40)
    assert lowest == pytest.approx(3 / 5)
    assert busy_shares(curve[:4]) is None


def test_saturated_is_where_something_waits():
    curve = samples(60, waiting=lambda t: 10 < t <= 50)
    assert [sample.time_s for sample in saturated(curve)] == list(range(14, 48))
    assert saturated(samples(60, waiting=lambda t: 0)) == []


def test_memory_that_grows_is_a_failure():
    report = Report(1)
    report.add_samples(samples(200, size=lambda t: t * 1e6))
    assert report.growth_mb_per_minute == pytest.approx(60)
    assert report.failures == ["the memory grew by 100 MB in the last 100 s, the limit is 50"]
    steady = Report(1)
    steady.add_samples(samples(200, size=lambda t: 1e9 + t % 2 * 1e6))
    assert steady.failures == []
    assert steady.busy == pytest.approx((1, 1))
