"""What orchestrators are told."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.patience import wait_until
from vimserve.server.engine.engine import Health, State
from vimserve.server.engine.loading import Status


def test_alive(client):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "alive"


def test_a_worker_that_is_stuck(serve, monkeypatch):
    client, app = serve()
    stuck = Health(False, "the worker has run one batch for 61 s")
    monkeypatch.setattr(app.state.engine, "health", lambda: stuck)
    for path in ("/healthz", "/healthz?probe=true"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"status": "dead", "detail": stuck.detail}


def test_a_probe_runs_the_model(serve, tiny):
    client, _ = serve()
    before = len(tiny.batches)
    assert client.get("/healthz").status_code == 200
    assert len(tiny.batches) == before
    answer = client.get("/healthz?probe=true")
    assert (answer.status_code, answer.json()["status"]) == (200, "alive")
    assert len(tiny.batches) == before + 1


def test_a_probe_of_a_model_that_fails(serve, tiny):
    client, _ = serve()
    tiny.failures = [RuntimeError("boom")]
    answer = client.get("/healthz?probe=true")
    assert answer.status_code == 503
    assert answer.json()["status"] == "dead"
    assert answer.json()["detail"].startswith("a probe failed: the model failed")
    assert client.get("/healthz?probe=true").status_code == 200


def test_a_probe_of_a_model_that_hangs(held, tiny, picture, encode):
    client, _, first, _ = held(encode(picture(64, 64)), request_timeout=0.5)
    answer = client.get("/healthz?probe=true")
    assert answer.status_code == 503
    assert "within 0.5 s" in answer.json()["detail"]
    tiny.gate.set()
    first.result()


def test_probes_at_once_are_one(held, tiny, monkeypatch, picture, encode):
    client, app, first, pool = held(encode(picture(64, 64)))
    asked, failure = [], app.state.probe.failure

    async def ask():
        asked.append(1)
        return await failure()

    monkeypatch.setattr(app.state.probe, "failure", ask)
    probes = [pool.submit(client.get, "/healthz?probe=true") for _ in range(4)]
    wait_until(lambda: len(asked) == 4)
    tiny.gate.set()
    assert [probe.result().status_code for probe in probes] == [200] * 4
    assert first.result().status_code == 200
    assert len(tiny.batches) == 2


def test_probe_is_a_boolean(client):
    answer = client.get("/healthz?probe=perhaps")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["parameter"] == "probe"
    assert problem["limit"] == [True, False]
    assert problem["value"] == "perhaps"


def test_ready(client):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "models": {"tiny": {"status": "ready"}}}


def test_a_model_that_failed_is_named(serve, monkeypatch):
    client, app = serve()
    engine = app.state.engine
    monkeypatch.setattr(engine.models["tiny"], "status", Status.FAILED)
    monkeypatch.setattr(engine.models["tiny"], "detail", "tiny.safetensors: no such file")
    expected = {"status": "failed", "detail": "tiny.safetensors: no such file"}
    assert client.get("/readyz").json()["models"] == {"tiny": expected}
    (model,) = client.get("/v1/models").json()["models"]
    assert expected.items() <= model.items()


@pytest.mark.parametrize("state", [State.LOADING, State.STOPPING, State.FAILED])
def test_not_ready(serve, monkeypatch, state):
    client, app = serve()
    with monkeypatch.context() as patch:
        patch.setattr(app.state.engine, "state", state)
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, state)


def test_many_scrapes_and_checks_at_once(client):
    with ThreadPoolExecutor(8) as pool:
        paths = ["/healthz", "/readyz", "/metrics", "/healthz?probe=true"] * 5
        assert {answer.status_code for answer in pool.map(client.get, paths)} == {200}
