"""What the server's policy is worth, on devices that take no time: the same on every machine."""

import pytest

from vimserve.loadtests.mixed_sizes import __main__ as mixed_sizes
from vimserve.loadtests.mixed_sizes.policies import POLICIES
from vimserve.loadtests.mixed_sizes.simulate import (
    DEVICES,
    Device,
    compare,
    excess,
    simulate,
    table,
)
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read, repeat

RECORDED = repeat(read(TRACE), 10)
BOUNDS = {"timeout_s": 60, "queue_tokens": 131_072}
ALIKE = [Arrival(float(at), 160, 160) for at in range(300)]
STEADY = Device(1000, launch=0.0, per_image=1.0, per_token=0.0)


@pytest.mark.parametrize("device", DEVICES)
def test_never_more_than_five_percent_above_the_best_of_the_others(device):
    compared = compare(DEVICES[device], RECORDED, mixed_sizes.LOADS, **BOUNDS)
    for simulated in compared.values():
        assert max(excess("server", simulated)) <= 1.05
        server = simulated["server"]
        # The shares are of a finite trace, which ends with more or fewer in the queue.
        assert server.answered >= max(one.answered for one in simulated.values()) - 0.005
        assert server.expired_of_admitted == 0


@pytest.mark.parametrize(
    ("device", "load", "timeout_s"),
    [("cpu", 2, 0.5), ("cpu", 2, 1), ("cpu", 3, 5), ("gpu", 30, 0.3)],
)
def test_under_overload_hardly_anything_expires_and_more_is_answered(device, load, timeout_s):
    bounds = {"timeout_s": timeout_s, "queue_tokens": 10**9}
    simulated = {
        name: simulate(DEVICES[device], RECORDED, POLICIES[name], load, **bounds)
        for name in ("server", "fill in order")
    }
    assert simulated["server"].refused
    assert simulated["server"].expired_of_admitted < 0.01
    assert simulated["fill in order"].expired_of_admitted > 0.1
    assert simulated["server"].answered > simulated["fill in order"].answered


@pytest.mark.parametrize("name", POLICIES)
def test_below_capacity_every_image_takes_its_own_time(name):
    simulated = simulate(STEADY, ALIKE, POLICIES[name], 0.1, **BOUNDS)
    assert simulated.answered == 1
    assert simulated.batches == len(ALIKE)
    assert simulated.percentiles_s[0] == pytest.approx(1, rel=0.02)


def test_every_image_is_answered_expired_or_refused():
    simulated = simulate(
        STEADY, ALIKE, POLICIES["one at a time"], 2, timeout_s=10, queue_tokens=1000
    )
    assert 1 < simulated.batches < len(ALIKE)
    assert simulated.expired > 0
    assert simulated.refused == 300 - len(simulated.latencies_s) - simulated.expired
    assert max(simulated.latencies_s) <= 10


def test_the_same_run_comes_out_the_same():
    runs = [simulate(STEADY, ALIKE, POLICIES["server"], 2, **BOUNDS) for _ in range(2)]
    assert runs[0] == runs[1]
    assert simulate(STEADY, ALIKE, POLICIES["server"], 2, **BOUNDS, seed=1) != runs[0]


def test_the_table_has_a_line_for_each_policy_and_load():
    lines = table(compare(STEADY, ALIKE, [0.5, 2], **BOUNDS)).splitlines()
    assert len(lines) == 1 + 2 * len(POLICIES)
    assert lines[1].startswith("0.5    server")
