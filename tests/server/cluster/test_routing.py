"""The router: what it counts, whom it prefers, and what it does not count twice."""

from collections import Counter, deque
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vimserve.server.cluster.routing import COMPARED, Report, Router

STALE_S = 5.0
# Tokens per second of a replica that gets nothing done.
STUCK = 1e-9


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def router(clock):
    return Router(clock, STALE_S)


def report(replica, queued=0, *, speed=1.0, taken=0, at=0.0, **models):
    """With the seconds that the queue takes at the speed, if that has been learnt."""
    queued_seconds = queued / speed if speed else 0.0
    return Report(replica, models or {"demo": speed}, queued, queued_seconds, taken, at)


def test_nobody_serves_what_nobody_has(router):
    assert router.rank("demo", 1) == []
    router.report(report("a", other=1.0))
    assert router.rank("demo", 1) == []
    assert router.rank("other", 1) == ["a"]


def test_fewer_tokens_go_first(router):
    for replica, queued in (("a", 30), ("b", 10), ("c", 20)):
        router.report(report(replica, queued))
    assert router.rank("demo", 1) == ["b", "c", "a"]


def test_a_large_request_goes_where_it_ends_first_though_more_waits_there(router):
    router.report(report("slow", 0, speed=10))
    router.report(report("fast", 100, speed=1000))
    assert router.rank("demo", 1) == ["slow", "fast"]
    assert router.rank("demo", 50) == ["fast", "slow"]


def test_the_speed_is_that_for_the_model(router):
    router.report(report("a", small=100.0, large=1.0))
    router.report(report("b", small=10.0, large=10.0))
    assert router.rank("small", 10) == ["a", "b"]
    assert router.rank("large", 10) == ["b", "a"]


def test_who_has_learnt_a_little_more_speed_is_not_preferred(router):
    for replica, speed in (("a", 90.0), ("b", 100.0), ("c", 110.0)):
        router.report(report(replica, speed=speed))
    assert {router.rank("demo", 1000)[0] for _ in range(100)} == {"a", "b", "c"}


def test_what_was_sent_counts_until_the_replica_reports_it(router):
    router.report(report("a", 10, taken=7))
    router.report(report("b", 25))
    for _ in range(2):
        router.sent("a", 10)
    assert router.rank("demo", 1) == ["b", "a"]  # 30 against 25
    router.report(report("a", 20, taken=8))
    assert router.rank("demo", 1) == ["b", "a"]  # one is there, the other on its way
    router.report(report("a", 20, taken=9))
    assert router.rank("demo", 1) == ["a", "b"]


def test_what_is_done_meanwhile_is_taken_off(router, clock):
    for replica in ("a", "b"):
        router.report(report(replica))
    router.sent("a", 4)
    router.report(report("b", 3))
    assert router.rank("demo", 1) == ["b", "a"]
    clock.now = 3.5
    router.report(report("b", 1, at=3.5))
    assert router.rank("demo", 1) == ["a", "b"]  # half a second against one
    clock.now = 4.0
    router.sent("a", 2)  # not before it is sent
    assert router.rank("demo", 1) == ["b", "a"]


def test_a_request_stands_for_those_of_other_routers(router):
    router.report(report("a", taken=100))
    router.report(report("b", 29))
    for _ in range(2):
        router.sent("a", 1)
    router.report(report("a", 10, taken=104))  # so there is another one, which sends as much
    router.sent("a", 9)
    assert router.rank("demo", 1) == ["a", "b"]  # 28 against 29
    router.sent("a", 1)
    assert router.rank("demo", 1) == ["b", "a"]


def test_a_replica_that_has_not_learnt_its_speed_is_taken_for_a_usual_one(router):
    for replica, queued, speed in (("a", 10, 0.5), ("new", 12, 0.0), ("b", 6, 5.5)):
        router.report(report(replica, queued, speed=speed))
    assert router.rank("demo", 10) == ["b", "new", "a"]
    router.report(report("b", 26, speed=5.5))
    assert router.rank("demo", 10) == ["new", "b", "a"]


def test_if_nobody_has_learnt_anything_tokens_decide(router):
    router.report(report("a", 10, speed=0.0))
    router.report(report("b", 5, speed=0.0))
    assert router.rank("demo", 10) == ["b", "a"]


def test_a_replica_that_has_long_been_silent_goes_last(router, clock):
    router.report(report("silent", at=0.0))
    clock.now = STALE_S
    router.report(report("a", 1000, at=clock.now))
    assert router.rank("demo", 1) == ["silent", "a"]
    clock.now += 0.1
    assert router.rank("demo", 1) == ["a", "silent"]
    router.report(report("silent", at=clock.now))
    assert router.rank("demo", 1) == ["silent", "a"]


def test_a_dead_replica_is_not_ranked_until_it_reports(router):
    router.report(report("a"))
    router.report(report("b", 3))
    router.sent("a", 5)
    router.forget("a")
    router.forget("a")
    router.sent("a", 5)
    assert router.rank("demo", 1) == ["b"]
    router.report(report("a"))
    assert router.rank("demo", 1) == ["a", "b"]


def test_what_was_sent_to_a_replica_that_began_again_is_lost(router):
    router.report(report("a", taken=9))
    router.report(report("b", 3))
    router.sent("a", 5)
    router.report(report("a", taken=0))
    assert router.rank("demo", 1) == ["a", "b"]


@pytest.mark.parametrize("busy", [False, True])
def test_a_request_that_never_arrives_is_given_up(router, busy):
    router.report(report("a"))
    router.report(report("b", 50))
    router.sent("a", 100)
    for number in range(1, 22):
        at = number * STALE_S / 20
        assert router.rank("demo", 1) == ["b", "a"], at
        if busy:  # the lost one is not noticed at once if others follow it
            router.sent("a", 100)
        router.report(report("a", taken=number * busy, at=at))
    assert router.rank("demo", 1) == ["a", "b"]


def test_ties_are_spread(router):
    for replica in "abcd":
        router.report(report(replica))
    first = Counter(router.rank("demo", 1)[0] for _ in range(400))
    assert min(first[replica] for replica in "abcd") > 50


def test_equal_replicas_get_equal_shares_between_two_reports(router):
    for replica in "abcd":
        router.report(report(replica))
    shares: Counter[str] = Counter()
    for _ in range(100):
        best, *_ = router.rank("demo", 10)
        router.sent(best, 10)
        shares[best] += 1
    assert [*shares.values()] == [25] * 4


def test_of_many_replicas_some_at_random_are_compared_and_none_is_left_out(router):
    many = range(10 * COMPARED)
    for queued in many:
        router.report(report(str(queued), queued))
    seen = set()
    for _ in range(200):
        ranked = [int(replica) for replica in router.rank("demo", 1)]
        assert sorted(ranked) == [*many]
        assert ranked[:COMPARED] == sorted(ranked[:COMPARED])
        seen |= {*ranked[:COMPARED]}
    assert seen == {*many}


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text("abcdef", min_size=1),
        st.tuples(st.integers(0, 10**6), st.floats(1, 1e6), st.booleans(), st.booleans()),
        max_size=8,
    ),
    st.integers(1, 10**5),
)
def test_the_rank_is_by_the_time_at_which_the_request_would_be_done(replicas, tokens):
    clock = Clock()
    clock.now = 10.0
    router = Router(clock, STALE_S)
    for name, (queued, speed, serves, fresh) in replicas.items():
        model = {"demo" if serves else "other": speed}
        at = 10.0 if fresh else 0.0
        router.report(Report(name, model, queued, queued / speed, 0, at))
    ranked = router.rank("demo", tokens)
    speeds = {name: speed for name, (_, speed, serves, _) in replicas.items() if serves}
    assert sorted(ranked) == sorted(speeds)
    fresh = [replicas[name][3] for name in ranked]
    assert fresh == sorted(fresh, reverse=True)
    usual = sum(speeds.values()) / len(speeds) if speeds else 0
    done = [
        replicas[name][0] / speed + tokens / (usual if usual / 2 < speed < usual * 2 else speed)
        for name in ranked
        if replicas[name][3] and (speed := speeds[name])
    ]
    assert all(early <= late * (1 + 1e-9) for early, late in pairwise(done))


class OneRouter(RuleBasedStateMachine):
    """A replica whose requests take their time to arrive, in order, and whose reports do as well.

    No request is lost, and once in ``STALE_S`` a report comes when none is on its way. Then the
    router knows exactly what is on its way.
    """

    @initialize()
    def begin(self):
        self.clock = Clock()
        self.router = Router(self.clock, STALE_S)
        self.queued: deque[int] = deque()
        self.on_their_way: deque[int] = deque()
        self.taken = 3
        self.tell()

    def tell(self):
        said = {"speed": STUCK, "taken": self.taken, "at": self.clock.now}
        self.router.report(report("a", sum(self.queued), **said))
        self.said, self.unsaid = sum(self.queued), sum(self.on_their_way)
        if not self.on_their_way:
            self.quiet_at = self.clock.now

    @rule(tokens=st.integers(1, 1000))
    def send(self, tokens):
        self.router.sent("a", tokens)
        self.on_their_way.append(tokens)
        self.unsaid += tokens

    @precondition(lambda self: self.on_their_way)
    @rule()
    def arrive(self):
        self.queued.append(self.on_their_way.popleft())
        self.taken += 1

    @precondition(lambda self: self.queued)
    @rule()
    def answer(self):
        self.queued.popleft()

    @rule(seconds=st.floats(0.01, 1.0))
    def wait(self, seconds):
        if self.clock.now + seconds >= self.quiet_at + STALE_S:
            while self.on_their_way:
                self.arrive()
            self.tell()
        self.clock.now += seconds

    @rule()
    def report(self):
        self.tell()

    @invariant()
    def counts_everything_once(self):
        """A rival that has one token more or less tells what the router counts."""
        own = self.said + self.unsaid
        for rival, best in ((own + 1, "a"), (own - 1, "rival"))[: 1 + (own > 0)]:
            self.router.report(report("rival", rival, speed=STUCK, at=self.clock.now))
            assert self.router.rank("demo", 1)[0] == best


TestOneRouter = OneRouter.TestCase
TestOneRouter.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
