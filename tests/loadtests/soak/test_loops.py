import asyncio

import pytest

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.soak.loops import closed_loop, open_loop, poisson


class Clients:
    """Counts how many requests are under way at once; half of them are answered."""

    def __init__(self):
        self.now = self.most = self.sent = 0

    async def send(self, request, start=None, due_s=0.0):
        self.sent += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        status = 200 if self.sent % 2 else 429
        return Outcome("single", 0, due_s, 0, 0, 0, status)


def test_a_closed_loop_sends_no_more_than_it_has_clients_at_once():
    clients = Clients()
    rate, outcomes = asyncio.run(closed_loop(clients.send, lambda: None, 3, 3600, most=20))  # type: ignore[arg-type, return-value]
    assert clients.most == 3
    assert len(outcomes) == clients.sent == 20
    assert rate > 0


def test_a_closed_loop_ends_with_its_time():
    assert asyncio.run(closed_loop(Clients().send, lambda: None, 3, 0, most=20)) == (0, [])  # type: ignore[arg-type, return-value]


def test_an_open_loop_does_not_wait_for_answers():
    clients = Clients()
    outcomes = asyncio.run(open_loop(clients.send, lambda: None, [0.0] * 9))  # type: ignore[arg-type, return-value]
    assert [outcome.due_s for outcome in outcomes] == [0.0] * 9
    assert clients.most > 3


def test_arrivals():
    arrivals = poisson(100, 10, 10_000, seed=1)
    assert len(arrivals) == pytest.approx(1000, rel=0.1)
    assert arrivals == sorted(arrivals) == poisson(100, 10, 10_000, seed=1)
    assert 0 < arrivals[0] < arrivals[-1] < 10
    assert poisson(100, 10, 5, seed=1) == arrivals[:5]
