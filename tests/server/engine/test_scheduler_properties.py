"""What holds of the scheduler whatever it is asked."""

import math
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.server.engine.pending import Request, make
from vimserve.server.engine.cost import CostModel, Load
from vimserve.server.engine.model_queue import BROUGHT_FORWARD, Budget
from vimserve.server.engine.scheduler import Beside, Decision, Scheduler

LOOKAHEAD, PATIENCE = 3, 2


class Machine(RuleBasedStateMachine):
    """Any series of calls, beside a plain account of who was passed over."""

    most_tokens, most_bytes = 10, 100

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, CostModel] = {}
        self.scheduler = Scheduler[Request](
            dict.fromkeys("ab", Budget(self.most_tokens, self.most_bytes)),
            self.costs,
            lookahead=LOOKAHEAD,
            patience=PATIENCE,
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

    @rule(model=st.sampled_from("ab"), launch=st.floats(0, 10), per_token=st.floats(0, 1))
    def learn(self, model, launch, per_token):
        self.costs[model] = CostModel(launch=launch, per_token=per_token)

    @rule(
        passes=st.sampled_from([0, 1]),
        beside=st.sampled_from([None, Beside(), Beside(True, 2.0), Beside(True, 9.0)]),
    )
    def next(self, passes, beside=None):
        self.now += passes
        places = {request: self.scheduler.position(request) for request in self.passed}
        decision = self.scheduler.next(self.now, beside)
        late = {request for request in self.passed if request.deadline <= self.now}
        assert len(decision.expired) == len(late)
        assert set(decision.expired) == late
        for request in decision.expired:
            self.leave(request)
        busy = beside is not None and beside.busy
        assert bool(decision.batch) == bool(self.passed) or (busy and len(self.passed) == 1)
        if decision.batch:
            self.check(decision.batch, places)

    def check(self, batch: list[Request], places: dict[Request, int | None]) -> None:
        (model,) = {request.model for request in batch}
        assert len(set(batch)) == len(batch)
        assert set(batch) <= set(self.passed)
        if len(batch) > 1:
            assert sum(request.tokens for request in batch) <= self.most_tokens
            assert sum(request.cost_bytes for request in batch) <= self.most_bytes
        cost = self.costs.get(model, CostModel())
        for others, request in enumerate(batch):
            brought_forward = BROUGHT_FORWARD * (len(self.passed) - others)
            assert others * cost.image(request.tokens) <= brought_forward * cost.launch
        rivals = [request for request in self.passed if request.model == model]

        def place(request):
            return request.priority, request.deadline, rivals.index(request)

        due = [request for request in rivals if self.passed[request] == PATIENCE]
        order = due + sorted(set(rivals) - set(due), key=place)
        assert batch[0] is order[0]
        assert order == sorted(rivals, key=lambda request: places[request] or 0)
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
            assert self.scheduler.load(model) == Load.of(tokens)

    @invariant()
    def each_has_a_place_of_its_own(self):
        for model in "ab":
            rivals = [request for request in self.passed if request.model == model]
            places = {self.scheduler.position(request) for request in rivals}
            assert places == set(range(len(rivals)))
        assert not any(self.scheduler.position(request) for request in self.gone)

    def teardown(self):
        while self.passed:
            self.next(0)
        assert self.scheduler.next(math.inf) == Decision([], [])


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40)


SIZES = st.lists(st.integers(1, 10), min_size=1, max_size=20)


@settings(max_examples=60)
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


@settings(max_examples=60)
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


WAITING = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 3), st.integers(1, 5)))


@settings(max_examples=60)
@given(WAITING, st.tuples(st.integers(1, 10), st.integers(1, 3), st.integers(1, 5)))
def test_a_request_waits_for_what_was_said_to_go_ahead(waiting, added):
    costs = {"a": CostModel(per_image=100, per_token=1)}
    scheduler = Scheduler[Request]({"a": Budget(10)}, costs, lookahead=0, patience=1000)
    for one in waiting:
        scheduler.add(Request(*one))
    request = Request(*added)
    ahead = scheduler.ahead("a", request.priority, request.deadline)
    scheduler.add(request)
    order = []
    while batch := scheduler.next(0).batch:
        order += batch
    before = order[: order.index(request)]
    assert ahead == sum(costs["a"].image(one.tokens) for one in before)


@settings(max_examples=60)
@given(WAITING, WAITING, st.integers(1, 3))
def test_no_more_is_ahead_than_everything(waiting, others, priority):
    scheduler = Scheduler[Request](
        dict.fromkeys("ab", Budget(10)), dict.fromkeys("ab", CostModel(1, 1, 1, 1)), patience=2
    )
    for model, requests in ("a", waiting), ("b", others):
        for tokens, urgency, deadline in requests:
            scheduler.add(Request(tokens, urgency, deadline, model))
    while scheduler.load("a").images or scheduler.load("b").images:
        everything = sum(scheduler.seconds(model, scheduler.load(model)) for model in "ab")
        ahead = [scheduler.ahead("a", priority, deadline) for deadline in range(7)]
        assert ahead == sorted(ahead)
        assert ahead[0] >= 0
        assert ahead[-1] <= everything
        scheduler.next(0)
