"""What Ray Serve's controller is told."""

from types import SimpleNamespace

from vimserve.server.cluster.policy import QUEUED_SECONDS, QueuedSeconds


def asked(policy, running, told):
    series = {
        name: [SimpleNamespace(value=value) for value in values] for name, values in told.items()
    }
    context = SimpleNamespace(
        running_replicas=running, raw_metrics={QUEUED_SECONDS: series} if told else None
    )
    return policy(context)[0]


def test_replicas_follow_the_queued_seconds_of_those_that_run():
    policy = QueuedSeconds(1, 3, 2.0, 300.0)
    assert asked(policy, ["a"], {}) == 1
    assert asked(policy, ["a"], {"a": []}) == 1
    assert asked(policy, ["a"], {"a": [9.0, 1.0]}) == 1
    assert asked(policy, ["a"], {"a": [1.0], "dead": [100.0]}) == 1
    assert asked(policy, ["a"], {"a": [0.0, 3.0]}) == 2
    assert asked(policy, ["a", "b"], {"a": [90.0], "b": [90.0]}) == 3
