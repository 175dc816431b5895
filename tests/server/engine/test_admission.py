"""Who is refused because the answer would come too late; the clock is made up."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.engine.driving import image, running, submit
from tests.server.engine.pending import Request
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.cost import CostModel
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.retry import LONGEST_RETRY_S
from vimserve.server.engine.room import Room
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import QueueFull, TooLate

BUDGET = Budget(100)


@pytest.fixture(autouse=True)
def nothing_is_learnt():
    """Here it is, unlike in all other tests."""


class Queue:
    """A backlog whose batches take 0.2 s and 0.01 s a token; its models are ``a`` and ``b``."""

    def __init__(self, max_tokens=10_000):
        self.now = 1000.0
        self.backlog = Backlog[Request](max_tokens, lambda model, load: None, lambda: self.now)
        for model in "ab":
            self.backlog.add(model, BUDGET)
            for tokens in 60 * [5, 100]:
                self.backlog.served(model, [tokens], 0.2 + 0.01 * tokens)

    def room(self, model="a", timeout_s=math.inf, priority=5):
        return Room(self.backlog, model, BUDGET, Urgency(self.now, timeout_s, priority))

    def add(self, *lengths, **urgency):
        with self.room(**urgency) as room:
            room.take(lengths)
            requests = [
                Request(tokens, room.urgency.priority, room.urgency.deadline, room.model)
                for tokens in lengths
            ]
            self.backlog.put(room, requests)
        return requests

    def run(self):
        """Run a batch to its end."""
        decision = self.backlog.take(0)
        tokens = sum(request.tokens for request in decision.batch)
        self.now += 0.2 + 0.01 * tokens
        return decision

    def is_full_for(self, *lengths, **urgency):
        with self.room(**urgency) as room:
            try:
                room.take(lengths)
            except TooLate:
                return True
        return False


def test_what_cannot_be_answered_in_time_is_refused_at_once():
    queue = Queue()
    queue.add(*8 * [100], priority=1)  # 9.6 s
    with queue.room(timeout_s=9) as room, pytest.raises(TooLate) as caught:
        room.take([50])
    error = caught.value
    assert error.limit == 9
    # 8 full batches and a tenth of their time, one more that it may have to share, and its own.
    assert error.value == pytest.approx(1.1 * 9.6 + 1.2 + 0.7, rel=0.05)
    assert error.retry_after_s == math.ceil(error.value - 9)
    assert error.headers["Retry-After"] == str(error.retry_after_s)
    assert not queue.is_full_for(50, timeout_s=13)


def test_after_the_time_that_it_was_told_it_is_accepted():
    queue = Queue()
    queue.add(*8 * [100], priority=1)
    with queue.room(timeout_s=6) as room, pytest.raises(TooLate) as caught:
        room.take([50])
    end = queue.now + int(caught.value.headers["Retry-After"])
    while queue.now < end:
        queue.run()
    assert not queue.is_full_for(50, timeout_s=6)


def test_a_batch_that_runs_counts_until_it_should_have_ended():
    queue = Queue()
    queue.add(100)
    queue.backlog.take(0)
    assert queue.is_full_for(10, timeout_s=1)
    queue.now += 1.1
    assert not queue.is_full_for(10, timeout_s=1)


def test_an_idle_device_tries_whatever_comes():
    assert not Queue().is_full_for(100, timeout_s=0.001)


def test_images_that_are_still_decoded_count():
    queue = Queue()
    with queue.room() as decoding:
        decoding.take([100])
        decoding.take([100])
        assert queue.is_full_for(10, timeout_s=2)
    assert not queue.is_full_for(10, timeout_s=2)


def test_the_images_of_one_request_do_not_stand_in_its_way():
    queue = Queue()
    with queue.room(timeout_s=0.1) as room:
        for _ in range(5):
            room.take([50])
    queue.add(10, priority=1)
    with queue.room(timeout_s=5) as room:
        room.take([50])
        with pytest.raises(TooLate):
            room.take(10 * [50])


def test_nobody_waits_for_worse_priorities_or_for_later_deadlines():
    queue = Queue()
    queue.add(*8 * [100], timeout_s=60)
    assert queue.is_full_for(10, timeout_s=3, priority=6)
    assert not queue.is_full_for(10, timeout_s=3, priority=4)
    assert not queue.is_full_for(10, timeout_s=3)
    queue.add(*8 * [100], timeout_s=30, priority=4)
    assert queue.is_full_for(10, timeout_s=3)


def test_another_models_queue_counts_as_far_as_fairness_goes():
    queue = Queue()
    queue.add(*40 * [100], model="b")  # 48 s
    assert not queue.is_full_for(50, timeout_s=4)
    queue.add(*10 * [100], priority=1)
    assert queue.is_full_for(50, timeout_s=22)
    assert not queue.is_full_for(50, timeout_s=31)


def test_a_model_that_has_not_run_refuses_nobody():
    backlog = Backlog[Request](10_000, lambda model, load: None, lambda: 0.0)
    backlog.add("new", BUDGET)
    for _ in range(20):
        with Room(backlog, "new", BUDGET, Urgency(0, 0.01, 5)) as room:
            room.take([100])
            backlog.put(room, [Request(100, model="new")])


def test_retry_after_is_the_time_that_the_queue_takes():
    queue = Queue(max_tokens=1000)
    queue.add(*10 * [100])
    queue.add(*2 * [100], model="b")
    with queue.room() as room, pytest.raises(QueueFull) as caught:
        room.take([10])
    assert caught.value.retry_after_s == math.ceil(12 * 1.2)
    for _ in range(300):
        queue.backlog.served("b", [100], 1000)
    with queue.room() as room, pytest.raises(QueueFull) as caught:
        room.take([10])
    assert caught.value.retry_after_s == LONGEST_RETRY_S


def test_the_engine_learns_from_the_batches_that_it_runs(tiny, spec):
    async def run():
        async with running(spec) as engine:
            assert engine._backlog._costs["tiny"] == CostModel()
            await submit(engine, image(0))[0]
            assert engine._backlog._costs["tiny"].launch > 0

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 100), st.sampled_from([1, 2, 5, 20]), st.floats(0, 1)),
        min_size=1,
        max_size=100,
    )
)
def test_hardly_anything_expires_that_was_admitted(arrivals):
    """Those with earlier deadlines, which come later and go first, cost others little."""
    queue = Queue()
    admitted = expired = 0
    for tokens, timeout_s, pause_s in arrivals:
        if not queue.is_full_for(tokens, timeout_s=timeout_s):
            idle = not queue.backlog._scheduler.load("a").images
            queue.add(tokens, timeout_s=timeout_s)
            admitted += not idle
        end = queue.now + pause_s
        while queue.now < end and queue.backlog._scheduler.load("a").images:
            expired += len(queue.run().expired)
    assert expired <= 0.2 * admitted


def test_what_runs_beside_another_batch_ends_after_both():
    queue = Queue()
    queue.add(100)
    queue.backlog.take(0)
    queue.add(100, 100)
    assert queue.backlog.take(0, beside=True).batch
    # 1.2 s each: two of them run, one waits, and then comes this one.
    assert queue.is_full_for(100, timeout_s=4.7)
    assert not queue.is_full_for(100, timeout_s=7)


def test_a_batch_that_took_less_than_expected_holds_up_what_is_expected_only_once():
    queue = Queue()
    for _ in range(50):
        queue.add(100)
        queue.backlog.take(0)  # and it ends at once
    assert not queue.is_full_for(100, timeout_s=5)


def test_what_is_queued_later_needs_time_but_no_room_until_then():
    queue = Queue(max_tokens=1000)
    queue.add(100, timeout_s=10)
    with queue.room(timeout_s=20) as late, pytest.raises(TooLate):
        late.take([100], later=50 * [100])
    with queue.room() as large:
        large.take(4 * [100], later=50 * [100])
        for _ in range(3):
            queue.backlog.put(large, [Request(100) for _ in range(4)], following=4 * [100])
            with queue.room() as room:
                room.take([100])  # four wait, and room for the next four is kept
                with pytest.raises(QueueFull) as caught:
                    room.take([1])
                assert (caught.value.limit, caught.value.value) == (1000, 1001)
            for _ in range(4):
                queue.run()
        assert large.load.tokens == 400
    with queue.room() as room:
        room.take(9 * [100])
