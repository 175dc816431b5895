"""The policy against simulated machines: what a block takes on each number of threads."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vimserve.model.thread_policy import MOST_WAIT_S, ThreadPolicy

BLOCKS = 24
Block = tuple[float, float]  # seconds, and of these what the calling thread computes
Machine = Callable[[int, float], Block]  # by number of threads and time


class Simulated:
    """Passes one after another; ``mean_s`` is what a pass took since the latest ``run``."""

    def __init__(self, most: int) -> None:
        self.policy = ThreadPolicy(most, most, 0.0)
        self.now = 0.0
        self.used: list[int] = []

    def run(self, machine: Machine, seconds: float) -> "Simulated":
        begun, passes = self.now, 0
        self.used = []
        while self.now < begun + seconds:
            self.policy.begin(self.now, BLOCKS)
            threads = self.policy.threads
            for _ in range(BLOCKS):
                took, busy = machine(threads, self.now)
                self.now += took
                threads = self.policy.end_block(took, busy)
            self.used.append(self.policy.threads)
            passes += 1
        self.mean_s = (self.now - begun) / passes
        return self

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.used, self.used[1:], strict=False))


def by_threads(times_s: Sequence[float], shares: Sequence[float]) -> Machine:
    """A pass takes ``times_s[k - 1]`` on k threads, of which the caller computes a share."""

    def block(threads: int, _: float) -> Block:
        seconds = times_s[threads - 1] / BLOCKS
        return seconds, shares[threads - 1] * seconds

    return block


# Vim-Ti at 224² as it was first reported: two cores, alone and beside a busy process.
ALONE = by_threads([0.200, 0.134], [1, 1])
BESIDE_ONE = by_threads([0.200, 1.220], [1, 0.1])
# At 1248² beside two of them, on another machine: two threads get more of the CPUs than one.
BESIDE_TWO = by_threads([1.99, 1.53], [0.7, 0.45])
BOTH_EQUAL = by_threads([1.32, 1.29], [1, 0.5])


def cores(count: int, busy: Callable[[float], int]) -> Machine:
    """Work of 0.5 s a pass; a thread that shares its CPU makes the others wait for it."""

    def block(threads: int, now: float) -> Block:
        alone = 0.5 / BLOCKS / threads
        seconds = alone * 3 if threads > count - busy(now) else alone
        return seconds, alone

    return block


def test_alone_all_threads_are_used_and_trials_cost_little():
    quiet = Simulated(2).run(ALONE, 120)
    assert set(quiet.used) == {2}
    assert quiet.mean_s < 1.01 * 0.134


def test_beside_a_busy_process_from_the_start():
    assert Simulated(2).run(BESIDE_ONE, 120).mean_s < 1.05 * 0.200


def test_a_busy_process_comes_and_goes():
    simulated = Simulated(2).run(ALONE, 60)
    assert simulated.run(BESIDE_ONE, 4).used[-1] == 1
    assert simulated.run(BESIDE_ONE, 60).mean_s < 1.05 * 0.200
    assert simulated.run(ALONE, MOST_WAIT_S + 1).used[-1] == 2
    assert simulated.run(ALONE, 60).mean_s < 1.02 * 0.134


def test_one_pass_is_enough_to_notice_a_busy_process():
    simulated = Simulated(2).run(ALONE, 60)
    assert simulated.run(BESIDE_ONE, 0.001).mean_s < 1.220
    assert simulated.used == [1]


def test_waiting_threads_are_kept_where_they_are_faster_all_the_same():
    beside = Simulated(2).run(BESIDE_TWO, 120)
    assert set(beside.used) == {2}
    assert beside.mean_s < 1.02 * 1.53


def test_equally_good_numbers_do_not_alternate():
    assert Simulated(2).run(BOTH_EQUAL, 120).changes == 0


def test_one_of_many_cores_is_left_to_a_busy_process():
    simulated = Simulated(16).run(cores(16, lambda _: 1), 60)
    assert simulated.used[-1] == 15
    assert simulated.mean_s < 1.05 * 0.5 / 15


@pytest.mark.parametrize("busy", [3, 8])
def test_several_busy_processes_on_many_cores(busy):
    simulated = Simulated(16).run(cores(16, lambda _: busy), 120)
    assert simulated.used[-1] == 16 - busy
    assert simulated.run(cores(16, lambda _: 0), 120).used[-1] == 16


def test_time_slices_of_a_scheduler_do_not_confuse_it():
    """A block that meets another process waits for its slice, and most blocks meet none."""
    chance = random.Random(0)  # noqa: S311

    def block(threads: int, _: float) -> Block:
        alone = 0.002 if threads == 1 else 0.0015
        wait = 0.004 if chance.random() < (0.02 if threads == 1 else 0.6) else 0
        return alone + wait, alone

    one_thread_s = BLOCKS * (0.002 + 0.02 * 0.004)
    assert Simulated(2).run(block, 120).mean_s < 1.05 * one_thread_s


def test_a_single_thread_has_no_other_to_try():
    alone = Simulated(1).run(by_threads([0.2], [0.3]), 30)
    assert alone.mean_s == pytest.approx(0.2)


def test_an_idle_server_that_gets_a_request_now_and_then_recovers():
    simulated = Simulated(2).run(BESIDE_ONE, 30)
    assert simulated.policy.threads == 1
    for _ in range(10):
        simulated.now += 60
        simulated.run(ALONE, 0.1)
    assert simulated.policy.threads == 2


@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.floats(1e-6, 9), st.floats(0, 1)), min_size=1, max_size=300),
    st.integers(1, 30),
)
def test_the_number_is_always_one_that_may_be_used(most, times, blocks):
    policy = ThreadPolicy(most, most, 0.0)
    now = 0.0
    for number, (seconds, share) in enumerate(times):
        if number % blocks == 0:
            policy.begin(now, blocks)
        threads = policy.end_block(seconds, share * seconds)
        now += seconds
        assert 1 <= threads <= most
        assert 1 <= policy.threads <= most
