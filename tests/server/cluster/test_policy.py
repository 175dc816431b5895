"""What Ray Serve's controller is told."""

from types import SimpleNamespace

from vimserve.server.cluster.policy import QUEUED_SECONDS, QueuedSeconds


def asked(policy, running, told):
    context = SimpleNamespace(running_replicas=running, aggregated_metrics=told)
    return policy(context)[0]


def test_replicas_follow_the_queued_seconds_of_those_that_run():
    policy = QueuedSeconds(1, 3, 2.0, 300.0)
    assert asked(policy, ["a"], None) == 1
    assert asked(policy, ["a"], {QUEUED_SECONDS: {"a": 1.0}}) == 1
    assert asked(policy, ["a"], {QUEUED_SECONDS: {"a": 1.0, "dead": 100.0}}) == 1
    assert asked(policy, ["a"], {QUEUED_SECONDS: {"a": 3.0}}) == 2
    assert asked(policy, ["a", "b"], {QUEUED_SECONDS: {"a": 90.0, "b": 90.0}}) == 3
