import math
import time
import weakref
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vimserve.server.engine.scheduler import Budget, Decision, Load, Scheduler

LOOKAHEAD, PATIENCE = 3, 2


@dataclass(eq=False)
class Request:
    tokens: int = 1
    priority: int = 5
    deadline: float = math.inf
    model: str = "a"
    cost_bytes: int = 0


def make(*requests: Request, budget: int = 10, **options: int) -> Scheduler[Request]:
    scheduler = Scheduler[Request]({name: Budget(budget) for name in "abc"}, **options)
    for request in requests:
        scheduler.add(request)
    return scheduler


def test_nothing_is_pending():
    assert make().next(0) == Decision([], [])


def test_a_lone_request_runs_at_once():
    lone = Request(1)
    scheduler = make(lone, budget=1000)
    assert scheduler.next(0) == Decision([lone], [])
    assert scheduler.next(0) == Decision([], [])


def test_oldest_first_up_to_the_budget():
    pending = [Request(tokens) for tokens in [4, 3, 3, 1]]
    assert make(*pending).next(0).batch == pending[:3]
    assert make(*pending, budget=9, lookahead=0).next(0).batch == pending[:2]


def test_memory_bounds_a_batch_too():
    pending = [Request(1, cost_bytes=cost) for cost in [60, 50, 40]]
    scheduler = Scheduler[Request]({"a": Budget(10, memory_bytes=100)})
    for request in pending:
        scheduler.add(request)
    assert scheduler.next(0).batch == [pending[0], pending[2]]


@pytest.mark.parametrize("too_large", [Request(11), Request(1, cost_bytes=101)])
def test_a_request_above_the_budget_rides_alone(too_large):
    scheduler = Scheduler[Request]({"a": Budget(10, memory_bytes=100)})
    behind = Request(1, cost_bytes=1)
    scheduler.add(too_large)
    scheduler.add(behind)
    assert scheduler.next(0).batch == [too_large]
    assert scheduler.next(0).batch == [behind]


def test_the_better_priority_goes_first():
    low, middle, high = Request(6, priority=9), Request(6), Request(6, priority=1)
    scheduler = make(low, middle, high)
    assert [scheduler.next(0).batch for _ in range(3)] == [[high], [middle], [low]]


def test_later_requests_fill_the_batch_within_the_lookahead():
    pending = [Request(6), Request(9), Request(7), Request(4)]
    assert make(*pending, lookahead=1).next(0).batch == pending[:1]
    assert make(*pending, lookahead=2).next(0).batch == [pending[0], pending[3]]


def test_what_was_passed_over_often_leads_and_is_not_filled_past():
    large, patience = Request(8, priority=9), 3
    other = Request(8, priority=9)
    scheduler = make(large, other, patience=patience)
    for _ in range(patience):
        urgent = Request(6, priority=1)
        scheduler.add(urgent)
        assert scheduler.next(0).batch == [urgent]
    urgent = Request(2, priority=1)
    scheduler.add(urgent)
    assert scheduler.next(0).batch == [large]  # the urgent one would fit, but `other` is due
    assert scheduler.next(0).batch == [other, urgent]


def test_between_models_the_better_priority_goes_first_until_patience_ends():
    scheduler = make(*(Request(10, model="a", priority=9) for _ in range(2)), patience=3)
    for _ in range(8):
        scheduler.add(Request(10, model="b", priority=1))
    served = "".join(scheduler.next(0).batch[0].model for _ in range(10))
    assert served == "bbbabbbabb"


def test_a_model_has_no_credit_from_its_idle_time():
    scheduler = make(Request(10, model="b"), *(Request(10, model="a") for _ in range(20)))
    for _ in range(10):
        scheduler.next(0)
    for model in 9 * "bc":  # one that comes back and one that is new
        scheduler.add(Request(10, model=model))
    served = [scheduler.next(0).batch[0].model for _ in range(9)]
    assert all(2 <= served.count(model) <= 4 for model in "abc")


def test_a_model_whose_queue_runs_empty_keeps_its_account():
    scheduler = Scheduler[Request]({"a": Budget(1), "b": Budget(10)})
    served = dict.fromkeys("ab", 0)
    for _ in range(50):
        for model, tokens in ("a", 1), ("b", 10):
            if not scheduler.load(model).images:
                scheduler.add(Request(tokens, model=model))
        (request,) = scheduler.next(0).batch
        served[request.model] += request.tokens
    assert abs(served["a"] - served["b"]) <= 10


def test_patience_between_models_starts_anew_with_an_empty_queue():
    first, second = Request(model="a", priority=9), Request(model="a", priority=9)
    urgent = [Request(10, model="b", priority=1) for _ in range(5)]
    scheduler = make(first, *urgent, patience=2)
    assert [scheduler.next(0).batch for _ in range(2)] == [[urgent[0]], [urgent[1]]]
    scheduler.discard(first)
    scheduler.add(second)
    assert [scheduler.next(0).batch[0] for _ in range(3)] == [urgent[2], urgent[3], second]


def test_tokens_served_at_another_priority_are_no_debt():
    urgent = [Request(10, model="a", priority=1) for _ in range(5)]
    usual = [Request(10, model=name) for name in "aaaaabbbbb"]
    scheduler = make(*urgent, *usual)
    assert [scheduler.next(0).batch[0] for _ in urgent] == urgent
    assert sorted(scheduler.next(0).batch[0].model for _ in range(4)) == list("aabb")


def test_the_expired_leave_once_and_take_no_budget():
    expired = [Request(10, deadline=1), Request(10, deadline=5, model="b")]
    alive = Request(10, deadline=5.1)
    scheduler = make(*expired, alive)
    assert scheduler.next(5) == Decision([alive], expired)
    assert scheduler.next(6) == Decision([], [])


def test_what_is_discarded_is_neither_run_nor_expired():
    gone, alive = Request(6, deadline=1), Request(6)
    scheduler = make(gone, alive)
    assert scheduler.load("a") == Load(2, 12)
    assert scheduler.discard(gone)
    assert not scheduler.discard(gone)
    assert not scheduler.discard(Request())
    assert scheduler.load("a") == Load(1, 6)
    assert scheduler.next(5) == Decision([alive], [])
    assert not scheduler.discard(alive)


def test_an_old_deadline_is_forgotten():
    request = Request(deadline=1)
    scheduler = make(request)
    scheduler.add(Request(model="b"))
    scheduler.discard(request)
    request.deadline = 100
    scheduler.add(request)
    assert scheduler.next(5).expired == []


def test_a_budget_may_change():
    budgets = {"a": Budget(10)}
    scheduler = Scheduler[Request](budgets)
    pending = [Request(5) for _ in range(4)]
    for request in pending:
        scheduler.add(request)
    assert scheduler.next(0).batch == pending[:2]
    budgets["a"] = Budget(5)
    assert scheduler.next(0).batch == pending[2:3]


def test_errors():
    with pytest.raises(ValueError, match="lookahead must be at least 0, not -1"):
        make(lookahead=-1)
    with pytest.raises(ValueError, match="patience must be at least 1, not 0"):
        make(patience=0)
    with pytest.raises(KeyError, match="unknown"):
        make(Request(model="unknown"))
    request = Request()
    with pytest.raises(ValueError, match="pending already"):
        make(request, request)


def test_what_left_is_not_kept_in_memory():
    scheduler = make(stays := Request())
    gone = []
    for _ in range(1000):
        request = Request(deadline=1e9)
        scheduler.add(request)
        scheduler.discard(request)
        gone.append(weakref.ref(request))
    del request
    assert not any(reference() for reference in gone)
    assert len(scheduler._deadlines) < 100
    assert scheduler.next(0).batch == [stays]
    assert not scheduler._deadlines


class Machine(RuleBasedStateMachine):
    """Any series of calls, beside a plain account of who was passed over."""

    budget = Budget(10, memory_bytes=100)

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler[Request](
            dict.fromkeys("ab", self.budget), lookahead=LOOKAHEAD, patience=PATIENCE
        )
        self.now = 0.0
        self.passed: dict[Request, int] = {}  # who waits, in the order of arrival
        self.gone: list[Request] = []

    @rule(
        model=st.sampled_from("ab"),
        tokens=st.integers(1, 12),
        cost_bytes=st.integers(0, 110),
        priority=st.integers(1, 3),
        lasts=st.sampled_from([1, 5, math.inf]),
    )
    def add(self, model, tokens, cost_bytes, priority, lasts):
        request = Request(tokens, priority, self.now + lasts, model, cost_bytes)
        self.scheduler.add(request)
        self.passed[request] = 0

    @rule(data=st.data())
    def discard(self, data):
        if everybody := [*self.passed, *self.gone]:
            request = data.draw(st.sampled_from(everybody))
            assert self.scheduler.discard(request) == (request in self.passed)
            self.leave(request)

    @rule(passes=st.sampled_from([0, 1]))
    def next(self, passes):
        self.now += passes
        decision = self.scheduler.next(self.now)
        late = {request for request in self.passed if request.deadline <= self.now}
        assert len(decision.expired) == len(late)
        assert set(decision.expired) == late
        for request in decision.expired:
            self.leave(request)
        assert bool(decision.batch) == bool(self.passed)
        if decision.batch:
            self.check(decision.batch)

    def check(self, batch: list[Request]) -> None:
        (model,) = {request.model for request in batch}
        assert len(set(batch)) == len(batch)
        assert set(batch) <= set(self.passed)
        if len(batch) > 1:
            assert sum(request.tokens for request in batch) <= self.budget.tokens
            assert sum(request.cost_bytes for request in batch) <= self.budget.memory_bytes
        rivals = [request for request in self.passed if request.model == model]
        due = [request for request in rivals if self.passed[request] == PATIENCE]
        order = due + sorted(set(rivals) - set(due), key=lambda r: (r.priority, rivals.index(r)))
        assert batch[0] is order[0]
        assert batch == [request for request in order if request in batch]
        last = rivals[max(rivals.index(request) for request in batch)]
        for request in rivals[: rivals.index(last)]:
            self.passed[request] += request not in batch
        for request in batch:
            self.leave(request)
        assert all(count <= PATIENCE for count in self.passed.values())

    def leave(self, request: Request) -> None:
        if request in self.passed:
            del self.passed[request]
            self.gone.append(request)

    @invariant()
    def loads_add_up(self):
        for model in "ab":
            tokens = [request.tokens for request in self.passed if request.model == model]
            assert self.scheduler.load(model) == Load(len(tokens), sum(tokens))

    def teardown(self):
        while self.passed:
            self.next(0)
        assert self.scheduler.next(math.inf) == Decision([], [])


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


SIZES = st.lists(st.integers(1, 10), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 10))
def test_equals_leave_in_the_order_of_arrival(sizes, later, budget):
    pending = [Request(size) for size in sizes]
    scheduler = make(*pending, budget=budget)
    served = []
    while batch := scheduler.next(0).batch:
        served += batch
        if later:
            pending.append(Request(later.pop()))
            scheduler.add(pending[-1])
    for size in {request.tokens for request in pending}:
        in_turn = [request for request in pending if request.tokens == size]
        assert [request for request in served if request.tokens == size] == in_turn


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=30))
def test_saturated_models_get_the_same_tokens_within_a_batch(sizes):
    sizes = cycle(sizes)
    scheduler = make(budget=100)
    served = dict.fromkeys("ab", 0)
    for _ in range(100):
        for model in served:
            while scheduler.load(model).tokens <= 200:
                scheduler.add(Request(next(sizes), model=model))
        for request in scheduler.next(0).batch:
            served[request.model] += request.tokens
        assert abs(served["a"] - served["b"]) <= 100


@pytest.mark.parametrize("pending", [10_000, 100_000])
def test_a_decision_among_many_takes_under_two_ms(pending):
    rng = np.random.default_rng(0)
    scheduler = make(budget=65_536)
    for tokens, priority, deadline, model in zip(
        rng.choice([197, 1025, 4097, 6085], pending).tolist(),
        rng.integers(1, 10, pending).tolist(),
        rng.uniform(1, 1e6, pending).tolist(),
        rng.choice(list("abc"), pending).tolist(),
        strict=True,
    ):
        scheduler.add(Request(tokens, priority, deadline, model))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        batch = scheduler.next(0).batch
        times.append(time.perf_counter() - start)
        assert batch
    assert min(times) < 0.002
