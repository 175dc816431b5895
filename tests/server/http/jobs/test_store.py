"""The store of jobs, beside a plain account of what it should hold; its clock is made up."""

import re
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vimserve.server.errors import BodyTooLarge
from vimserve.server.http.jobs.errors import JobsFull, UnknownJob
from vimserve.server.http.jobs.store import Store

MOST_JOBS, MOST_BYTES, KEEP_S = 3, 100, 10


@dataclass(eq=False)
class Kept:
    id: str


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Machine(RuleBasedStateMachine):
    """Any series of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store: Store[Kept] = Store(MOST_JOBS, MOST_BYTES, KEEP_S, self.clock)
        self.held: dict[Kept, int] = {}
        self.expiries: dict[Kept, float] = {}
        self.replaceable: list[Kept] = []
        self.gone: list[Kept] = []

    @rule(num_bytes=st.integers(0, 110))
    def add(self, num_bytes):
        job = Kept(self.store.new_id())
        fits = sum(self.held.values()) + num_bytes <= MOST_BYTES
        if num_bytes > MOST_BYTES:
            with pytest.raises(BodyTooLarge):
                self.store.add(job, num_bytes)
        elif not fits or (len(self.held) == MOST_JOBS and not self.replaceable):
            with pytest.raises(JobsFull) as caught:
                self.store.add(job, num_bytes)
            assert caught.value.limit == (MOST_JOBS if fits else MOST_BYTES)
            self.check_retry(caught.value)
        else:
            self.store.add(job, num_bytes)
            if len(self.held) == MOST_JOBS:
                self.forget(self.replaceable[0])
            self.held[job] = num_bytes

    @precondition(lambda self: self.held)
    @rule(data=st.data(), num_bytes=st.integers(0, 110))
    def resize(self, data, num_bytes):
        job = data.draw(st.sampled_from([*self.held]))
        total = sum(self.held.values()) - self.held[job] + num_bytes
        if total > MOST_BYTES:
            with pytest.raises(BodyTooLarge if num_bytes > MOST_BYTES else JobsFull):
                self.store.resize(job, num_bytes)
        else:
            self.store.resize(job, num_bytes)
            self.held[job] = num_bytes

    @precondition(lambda self: self.held.keys() - self.expiries.keys())
    @rule(data=st.data(), replaceable=st.booleans())
    def end(self, data, replaceable):
        job = data.draw(st.sampled_from([job for job in self.held if job not in self.expiries]))
        self.store.end(job, replaceable=replaceable)
        self.expiries[job] = self.clock.now + KEEP_S
        if replaceable:
            self.replaceable.append(job)

    @precondition(lambda self: self.held or self.gone)
    @rule(data=st.data())
    def remove(self, data):
        job = data.draw(st.sampled_from([*self.held, *self.gone]))
        self.store.remove(job)
        self.forget(job)

    @rule(seconds=st.integers(0, 12))
    def expire(self, seconds):
        self.clock.now += seconds
        self.store.expire()
        for job in [job for job, expiry in self.expiries.items() if expiry <= self.clock.now]:
            self.forget(job)

    def forget(self, job):
        if job in self.held:
            del self.held[job]
            self.expiries.pop(job, None)
            self.replaceable = [one for one in self.replaceable if one is not job]
            self.gone.append(job)

    def check_retry(self, error):
        left = min(self.expiries.values(), default=self.clock.now) - self.clock.now
        assert error.retry_after_s == max(left, 1)

    @invariant()
    def it_holds_what_it_should(self):
        assert {*self.store} == {*self.held}
        assert len(self.store) == len(self.held) <= MOST_JOBS
        assert self.store.held_bytes == sum(self.held.values()) <= MOST_BYTES
        assert self.store.next_expiry == min(self.expiries.values(), default=None)
        for job in self.held:
            assert self.store.get(job.id) is job
        for job in self.gone:
            with pytest.raises(UnknownJob, match=f"{job.id} has expired or was deleted"):
                self.store.get(job.id)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30)


def test_ids_cannot_be_guessed_and_tell_the_start():
    first, second = (Store[Kept](1, 1, 1) for _ in range(2))
    ids = {first.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert len({name.partition("-")[0] for name in ids}) == 1
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{32}", name) for name in ids)
    with pytest.raises(UnknownJob, match=r"of an earlier start .* lost when it restarts"):
        second.get(ids.pop())


@pytest.mark.parametrize(
    "name", ["", "1", "x" * 5000, "0123456g-" + 32 * "0", 8 * "0" + "-" + 33 * "0"]
)
def test_what_is_no_id_is_shown_in_short(name):
    with pytest.raises(UnknownJob, match="there is no job") as caught:
        Store[Kept](1, 1, 1).get(name)
    assert len(caught.value.detail) < 200
