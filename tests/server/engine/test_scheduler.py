from dataclasses import dataclass

from server.engine.scheduler import schedule


@dataclass(frozen=True)
class Request:
    tokens: int
    arrived: float = 0
    deadline: float = 100
    abandoned: bool = False


def test_nothing_is_pending():
    assert schedule([], now=0).batch == []
    assert schedule([([], 10)], now=0).batch == []


def test_a_lone_request_runs_at_once():
    lone = Request(1)
    assert schedule([([lone], 1000)], now=0).batch == [lone]


def test_oldest_first_up_to_the_budget():
    pending = [Request(tokens, arrived=i) for i, tokens in enumerate([4, 3, 3, 1])]
    assert schedule([(pending, 10)], now=5).batch == pending[:3]
    assert schedule([(pending, 9)], now=5).batch == pending[:2]


def test_a_request_that_does_not_fit_is_not_overtaken():
    pending = [Request(6, arrived=0), Request(9, arrived=1), Request(1, arrived=2)]
    assert schedule([(pending, 10)], now=5).batch == pending[:1]


def test_a_request_above_the_budget_rides_alone():
    pending = [Request(11, arrived=0), Request(1, arrived=1)]
    assert schedule([(pending, 10)], now=5).batch == pending[:1]


def test_the_model_that_has_waited_longest_is_served():
    young, old = [Request(1, arrived=2)], [Request(1, arrived=1), Request(1, arrived=3)]
    assert schedule([(young, 10), (old, 10)], now=5).batch == old


def test_expired_and_abandoned_requests_leave_every_queue():
    expired = Request(1, deadline=5)
    abandoned = Request(1, abandoned=True)
    gone_in_time = Request(1, deadline=5, abandoned=True)
    alive = Request(1, arrived=3)
    decision = schedule([([expired, alive], 10), ([abandoned, gone_in_time], 10)], now=5)
    assert decision.batch == [alive]
    assert decision.expired == [expired]
    assert decision.abandoned == [abandoned, gone_in_time]


def test_the_expired_take_no_budget():
    pending = [Request(10, deadline=1), Request(10, arrived=1)]
    assert schedule([(pending, 10)], now=5).batch == pending[1:]
