"""Who is there, by what replicas say and by how requests to them end."""

from dataclasses import replace

import pytest

from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.standing import KEPT_S, Registry, Standing

ONE = Standing("one", "all", "host:1", "0abc", 1, {"tiny": 10.0}, 5, 0.5, 0)
TWO = replace(
    ONE, replica="two", address="host:2", jobs="0def", queued_tokens=0, queued_seconds=0.0
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics():
    return ClusterMetrics()


@pytest.fixture
def directory(metrics, clock):
    directory = Directory(metrics, clock)
    directory.hear([ONE, TWO])
    return directory


def changes(metrics):
    (family,) = metrics.changes.collect()
    return {s.labels["change"]: s.value for s in family.samples if s.name.endswith("_total")}


def names(standings):
    return [one.replica for one in standings]


def test_the_router_ranks(directory):
    assert names(directory.rank("tiny", 1)) == ["two", "one"]
    directory.sent("two", 100)
    assert names(directory.rank("tiny", 1)) == ["one", "two"]
    assert directory.rank("other", 1) == []
    assert len(directory.rank(None, 0)) == 2


def test_an_old_word_of_a_dead_replica_does_not_count(directory, metrics):
    directory.lost("two")
    directory.hear([ONE, TWO])
    assert names(directory.ready) == ["one"]
    for beat in (2, 2):  # it may have said so before it died
        directory.hear([replace(TWO, beat=beat)])
        assert names(directory.ready) == ["one"]
    directory.hear([replace(TWO, beat=3)])
    assert names(directory.ready) == ["one", "two"]
    assert changes(metrics) == {"joined": 3, "lost": 1}


def test_one_that_drains_takes_no_requests_but_has_its_jobs(directory, metrics):
    directory.hear([replace(TWO, beat=2, models={}, draining=True)])
    assert names(directory.ready) == ["one"]
    assert directory.with_job("0def-1").replica == "two"
    directory.hear([ONE])
    assert directory.with_job("0def-1") is None
    assert changes(metrics) == {"joined": 2, "draining": 1, "left": 1}


def test_one_that_ends_while_it_drains_is_not_lost(directory, metrics):
    directory.hear([replace(TWO, beat=2, models={}, draining=True)])
    directory.lost("two")
    assert changes(metrics) == {"joined": 2, "draining": 1, "left": 1}


def test_a_registry_that_has_forgotten_everything_is_no_reason_to_forget(directory):
    directory.hear([])
    assert names(directory.ready) == ["one", "two"]


def test_who_is_silent_is_gone(directory, metrics, clock):
    clock.now = KEPT_S + 1
    directory.hear([replace(ONE, beat=2)])
    assert names(directory.all) == ["one"]
    assert changes(metrics)["silent"] == 1


def test_placement(directory):
    directory.hear([replace(ONE, replica="three", group="other", models={"other": 0.0})])
    assert names(directory.placed("tiny")) == ["one", "two"]
    assert names(directory.placed("other")) == ["one", "two", "three"]


def test_the_registry_forgets(clock):
    registry = Registry(clock)
    registry.publish(ONE)
    registry.publish(TWO)
    registry.leave("one")
    registry.leave("one")
    assert registry.standings() == [TWO]
    clock.now = KEPT_S
    assert registry.standings() == []
