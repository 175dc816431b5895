import gc
import sys
import weakref

import numpy as np
import pytest

from tests.server.engine.pending import Request, make
from vimserve.server.engine.cost import CostModel, Load
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.scheduler import Decision, Scheduler


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


def test_within_a_priority_the_earlier_deadline_goes_first():
    late, early, soon = Request(6, deadline=30), Request(6, deadline=20), Request(6, deadline=20)
    urgent = Request(6, priority=1, deadline=40)
    scheduler = make(late, early, soon, urgent)
    assert [scheduler.next(0).batch for _ in range(4)] == [[urgent], [early], [soon], [late]]


def batch_of(cost, *tokens):
    scheduler = Scheduler[Request]({"a": Budget(1000)}, {"a": cost})
    for count in tokens:
        scheduler.add(Request(count))
    return [request.tokens for request in scheduler.next(0).batch]


def test_without_a_launch_to_save_nothing_joins_a_batch():
    assert batch_of(CostModel(per_token=1), 10, 10, 100) == [10]


def test_a_small_image_does_not_wait_for_a_large_one_to_save_a_launch():
    cost = CostModel(launch=10, per_token=1)
    assert batch_of(cost, 5, 300, 5) == [5, 5]
    assert batch_of(cost, 300, 5) == [300, 5]


def test_where_the_launch_is_what_costs_everything_joins():
    assert batch_of(CostModel(launch=10, per_token=0.01), 5, 300, 5, 300) == [5, 300, 5, 300]


def test_where_many_wait_what_joins_helps_them_all():
    cost = CostModel(launch=10, per_token=1)
    assert batch_of(cost, 5, 100) == [5]
    assert batch_of(cost, 5, 100, *10 * [500]) == [5, 100]


def test_those_who_wait_for_other_models_are_helped_too():
    scheduler = Scheduler[Request](
        dict.fromkeys("ab", Budget(1000)), {"a": CostModel(launch=10, per_token=1)}
    )
    pending = [Request(5), Request(100)]
    for request in [*pending, *(Request(500, model="b") for _ in range(10))]:
        scheduler.add(request)
    assert scheduler.next(0).batch == pending


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
    assert scheduler.load("a") == Load.of([6, 6])
    assert scheduler.discard(gone)
    assert not scheduler.discard(gone)
    assert not scheduler.discard(Request())
    assert scheduler.load("a") == Load.of([6])
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
    assert scheduler.next(0).batch == [stays]


class Watched(Request):
    """Whatever looks at one runs a line of Python."""

    def __getattribute__(self, name):
        return super().__getattribute__(name)


class Deadline(float):
    """Whatever compares one runs a line of Python."""

    def __lt__(self, other):
        return super().__lt__(other)


def lines_of(function):
    """How many lines of Python a call runs, and its result."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # it calls functions of its own, at any time
    sys.settrace(trace)
    try:
        return function(), count
    finally:
        sys.settrace(before)
        gc.enable()


def test_a_decision_takes_hardly_longer_among_many():
    rng = np.random.default_rng(0)
    traffic = [
        Watched(tokens, priority, Deadline(deadline), model)
        for tokens, priority, deadline, model in zip(
            rng.choice([197, 1025, 4097, 6085], 50_000).tolist(),
            rng.integers(1, 10, 50_000).tolist(),
            sorted(rng.uniform(1, 1e6, 50_000).tolist()),
            rng.choice(list("abc"), 50_000).tolist(),
            strict=True,
        )
    ]
    few, many = make(*traffic[:10_000], budget=65_536), make(*traffic, budget=65_536)
    for _ in range(20):
        decision, lines = lines_of(lambda: few.next(0))
        assert len(decision.batch) > 10
        same, more = lines_of(lambda: many.next(0))
        assert same == decision
        # A bisection among five times as many compares three times more.
        assert more <= lines + 4 * len(decision.batch)
