"""What each running batch has of the device; the clock and the memory are made up."""

import pytest

from vimserve.server.engine import running
from vimserve.server.engine.running import Running, Shares
from vimserve.server.telemetry.tracing import BatchTrace


class Machine:
    """Its seconds, and the most bytes that were resident since they were last forgotten."""

    def __init__(self):
        self.now = 100.0
        self.peak = 0

    def forget(self):
        self.peak = 0


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr("time.monotonic", lambda: machine.now)
    monkeypatch.setattr(running, "highest_resident", lambda: machine.peak)
    monkeypatch.setattr(running, "forget_highest_resident", machine.forget)
    return machine


def shares(*, side_by_side):
    made = Shares()
    made.held = 1000
    made.side_by_side = side_by_side
    return made


def test_one_after_the_other_each_has_the_device_while_it_is_the_first(machine):
    device = shares(side_by_side=False)
    first, second = Running([], BatchTrace(), 1), Running([], BatchTrace(), 1)
    assert device.busy_since is None
    device.add(first)
    machine.now += 1
    device.add(second)
    machine.now += 2
    assert device.busy_since == 100
    device.remove(first)
    assert device.busy_since == 103
    machine.now += 4
    assert device.busy_s == 7
    device.remove(second)
    machine.now += 8
    assert (first.seconds, first.device_s) == (3, 3)
    assert (second.seconds, second.device_s) == (4, 4)
    assert device.busy_s == 7
    assert device.busy_since is None


def test_side_by_side_they_share_the_time(machine):
    device = shares(side_by_side=True)
    first, second = Running([], BatchTrace(), 1), Running([], BatchTrace(), 1)
    device.add(first)
    machine.now += 1
    device.add(second)
    machine.now += 2
    assert device.busy_since == 100
    device.remove(second)
    machine.now += 4
    device.remove(first)
    assert (first.seconds, first.device_s) == (7, 6)
    assert (second.seconds, second.device_s) == (2, 1)
    assert device.busy_s == 7


def test_side_by_side_they_share_the_growth_of_the_memory_as_was_predicted(machine):
    device = shares(side_by_side=True)
    small, large = Running([], BatchTrace(), 100), Running([], BatchTrace(), 300)
    machine.peak = 9000  # before anything ran
    device.add(large)
    machine.peak = 1600
    device.add(small)
    machine.peak = 1800
    device.remove(large)
    machine.peak = 1150
    device.remove(small)
    assert large.peak_bytes == 600
    assert small.peak_bytes == 200


def test_one_after_the_other_memory_is_measured_elsewhere(machine):
    device = shares(side_by_side=False)
    batch = Running([], BatchTrace(), 100)
    device.add(batch)
    machine.peak = 5000
    device.remove(batch)
    assert batch.peak_bytes == 0
    assert machine.peak == 5000
