"""When a batch begins beside one that runs."""

from tests.server.engine.pending import Request
from vimserve.server.engine.cost import CostModel
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.scheduler import Beside, Decision, Scheduler

COSTS = {"a": CostModel(per_token=1.0)}


def beside(*requests, rest):
    scheduler = Scheduler[Request]({"a": Budget(10)}, COSTS)
    for request in requests:
        scheduler.add(request)
    return scheduler.next(0, Beside(True, rest)).batch


def test_a_single_request_shares_the_device_only_if_it_ends_before_the_batch_that_runs():
    one = Request(4)
    assert beside(one, rest=4.5) == [one]
    assert beside(one, rest=4.0) == []
    assert beside(one, rest=0.0) == []


def test_if_more_wait_one_shares_the_device():
    first, second = Request(4), Request(4)
    assert beside(first, second, rest=0.0) == [first]


def test_a_small_one_joins_no_batch_beside_which_it_could_run():
    def batch(beside):
        large, small = Request(8), Request(1)
        scheduler = Scheduler[Request]({"a": Budget(10)}, {"a": CostModel(2.0, per_token=1.0)})
        scheduler.add(large)
        scheduler.add(small)
        return [request.tokens for request in scheduler.next(0, beside).batch]

    assert batch(None) == [8, 1]
    assert batch(Beside()) == [8]
    # What it waits longer than for the batch that runs is less than the launch it saves is worth.
    assert batch(Beside(True, 3.0)) == [8, 1]


def test_what_expires_leaves_though_nothing_may_share_the_device():
    late = Request(4, deadline=1.0)
    scheduler = Scheduler[Request]({"a": Budget(10)}, COSTS)
    scheduler.add(late)
    assert scheduler.next(2.0, Beside(True, 0.0)) == Decision([], [late])
