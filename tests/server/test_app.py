"""The whole server over real sockets: concurrency, clients that leave, time that runs out."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx2
import pytest
import torch

from tests.patience import PATIENCE_S, wait_until
from tests.server import raw
from tests.server.live import live
from vimserve.model import catalog
from vimserve.model.config import DeiTConfig
from vimserve.model.families import build
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.engine.cost import CostModel

SIZES = [(16 * (1 + i % 7), 16 * (1 + i * 3 % 11)) for i in range(20)]
TINY = {"model": "tiny"}
DEIT = DeiTConfig(width=64, depth=1, heads=2, num_classes=7, attention="eager")
RESNET = ResNetConfig(blocks=(1, 1, 1, 1), width=8, inner=8, num_classes=7)
QUERY = {"resolution": "native", "fit": "contain", "top_k": "7"}


def depth(app):
    return app.state.metrics.registry.get_sample_value("vimserve_queue_depth", TINY)


def batch_count(app):
    return app.state.metrics.registry.get_sample_value("vimserve_batch_images_count", TINY)


def scores(answer):
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["results"][0]["predictions"]
    return [p["score"] for p in sorted(predictions, key=lambda p: p["index"])]


def test_a_deit_says_how_it_attends(monkeypatch, spec):
    spec = replace(spec, config=DEIT)
    monkeypatch.setattr(catalog, "load", lambda *_: build(spec.config))
    with live(create_app(ServerConfig(max_resolution=224), [spec])) as client:
        (model,) = client.get("/v1/models").json()["models"]
        metrics = client.get("/metrics").text
    assert (model["family"], model["attention"]) == ("deit", "eager")
    (info,) = re.findall(r"vimserve_model_info{(.*)} 1.0", metrics)
    assert 'attention="eager"' in info
    assert 'family="deit"' in info


@pytest.mark.parametrize("config", [None, DEIT, RESNET], ids=["vim", "deit", "resnet"])
def test_twenty_clients_with_mixed_sizes_get_the_answers_they_get_alone(
    monkeypatch, spec, picture, encode, config
):
    torch.manual_seed(0)
    spec = replace(spec, config=config or spec.config)
    model = build(spec.config)
    gate = threading.Event()
    gate.set()
    model.register_forward_pre_hook(lambda *_: gate.wait(PATIENCE_S) and None)
    monkeypatch.setattr(catalog, "load", lambda *_: model)
    monkeypatch.setattr(type(spec), "parameters", 1234)
    files = [encode(picture(*size, seed)) for seed, size in enumerate(SIZES)]
    app = create_app(ServerConfig(max_resolution=224), [spec])
    with live(app) as client:

        def ask(data):
            with httpx2.Client(base_url=client.base_url, timeout=PATIENCE_S) as own:
                return scores(own.post("/v1/classify", content=data, params=QUERY))

        alone = [ask(data) for data in files]
        batches = batch_count(app)
        gate.clear()
        with ThreadPoolExecutor(len(files)) as pool:
            together = pool.map(ask, files)
            wait_until(lambda: len(app.state.engine._worker.in_hand) + depth(app) == len(files))
            gate.set()
        assert batch_count(app) - batches == 2
    assert max(map(max, alone)) > 1.005 * min(map(max, alone))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_the_documentation_loads_nothing_from_elsewhere(serve):
    client, _ = serve()
    page = client.get("/docs").text
    assert "//" not in re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    loaded = re.findall(r"""(?:href|src)=["']([^"']+)""", page)
    assert {name.rpartition(".")[2] for name in loaded} >= {"js", "css"}
    for name in loaded:
        assert client.get(name).status_code == 200
    assert client.get("/redoc").status_code == 404


def test_clients_share_a_batch(held, tiny, picture, encode):
    data = encode(picture(64, 64))
    client, app, first, pool = held(data)
    others = [pool.submit(client.post, "/v1/classify", content=data) for _ in range(4)]
    wait_until(lambda: depth(app) == 4)
    tiny.gate.set()
    assert first.result().json()["batch"]["images"] == 1
    assert [other.result().json()["batch"]["images"] for other in others] == [4] * 4


def test_a_full_queue_answers_429(held, tiny, picture, encode):
    data = encode(picture(64, 64))
    client, app, first, pool = held(data, max_queue_tokens=20)
    second = pool.submit(client.post, "/v1/classify", content=data)
    wait_until(lambda: depth(app) == 1)
    refused = client.post("/v1/classify", content=data)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["limit"], refused.json()["value"]) == (20, 34)
    tiny.gate.set()
    assert first.result().status_code == second.result().status_code == 200


def test_what_would_be_answered_too_late_gets_429_at_once(held, tiny, picture, encode):
    data = encode(picture(64, 64))
    client, app, first, pool = held(data)
    app.state.engine._backlog._costs["tiny"] = CostModel(launch=1000)
    second = pool.submit(client.post, "/v1/classify", content=data)
    wait_until(lambda: depth(app) == 1)
    late = {"X-Request-Priority": "9", "X-Request-Timeout-Ms": "500000"}
    refused = client.post("/v1/classify", content=data, headers=late)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["type"] == "urn:vimserve:problem:too-late"
    assert problem["limit"] == 500
    assert problem["value"] > 2000  # its own batch and the one before it
    assert "goes before it" in problem["detail"]
    assert int(refused.headers["Retry-After"]) == problem["retry_after_s"] == 60
    tiny.gate.set()
    assert first.result().status_code == second.result().status_code == 200


def test_no_answer_in_time(held, tiny, connect, picture, encode):
    data = encode(picture(64, 64))
    client, _, first, _ = held(data, request_timeout=0.5)
    status, body = raw.answer(connect(client, raw.post(data)))
    problem = json.loads(body)
    assert (status, problem["limit"], problem["value"]) == (504, 0.5, 0.5)
    tiny.gate.set()
    assert first.result().status_code == 200
    patient = {"X-Request-Timeout-Ms": "3600000"}
    assert client.post("/v1/classify", content=data, headers=patient).status_code == 200
    assert [batch.num_images for batch in tiny.batches] == [1, 1]


def test_no_answer_in_time_from_the_device(serve, tiny, connect, picture, encode):
    client, _ = serve(request_timeout=0.5)
    tiny.gate.clear()
    status, _ = raw.answer(connect(client, raw.post(encode(picture(64, 64)))))
    assert status == 504


def test_a_client_that_leaves_does_not_reach_the_device(held, tiny, connect, picture, encode):
    data = encode(picture(64, 64))
    client, app, first, _ = held(data)
    leaving = connect(client, raw.post(data))
    wait_until(lambda: depth(app) == 1)
    leaving.close()
    metrics = app.state.metrics.registry
    labels = {"reason": "client-gone"}
    wait_until(lambda: metrics.get_sample_value("vimserve_rejected_total", labels) == 1)
    tiny.gate.set()
    assert first.result().status_code == 200
    assert client.post("/v1/classify", content=data).status_code == 200
    assert [batch.num_images for batch in tiny.batches] == [1, 1]


def test_a_client_that_leaves_while_sending(serve, connect):
    client, app = serve()
    metrics = app.state.metrics.registry
    leaving = connect(client, raw.post(bytes(1000))[:-500])
    wait_until(lambda: metrics.get_sample_value("vimserve_inflight") == 1)
    leaving.close()
    labels = {"model": "tiny", "task": "classify", "status": "499"}
    wait_until(lambda: metrics.get_sample_value("vimserve_requests_total", labels) == 1)


def test_a_body_that_does_not_arrive(serve, connect):
    client, _ = serve(request_timeout=0.3)
    status, body = raw.answer(connect(client, raw.post(bytes(1000))[:-500]))
    assert status == 408
    assert b"upload-timeout" in body


def test_a_model_failure_is_a_problem(serve, tiny, picture, encode):
    client, _ = serve()
    data = encode(picture(64, 64))
    tiny.failures = [RuntimeError("boom")]
    answer = client.post("/v1/classify", content=data)
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:vimserve:problem:model-failure"
    assert client.post("/v1/classify", content=data).status_code == 200


def test_an_unforeseen_error_is_a_problem_without_its_details(serve, monkeypatch, picture, encode):
    client, _ = serve()
    monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
    answer = client.post("/v1/classify", content=encode(picture(64, 64)))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "division" not in answer.text


def test_shutting_down_answers_what_is_in_flight(tiny, spec, picture, encode):
    data = encode(picture(64, 64))
    app = create_app(ServerConfig(), [spec])

    def open_gate_while_it_stops():
        wait_until(lambda: app.state.drain.stopping)
        tiny.gate.set()

    with ThreadPoolExecutor() as pool:
        with live(app) as client:
            while tiny.entered.acquire(blocking=False):
                pass
            tiny.gate.clear()
            url = f"{client.base_url}/v1/classify"
            answer = pool.submit(httpx2.post, url, content=data, timeout=PATIENCE_S)
            tiny.wait_for_batch()
            pool.submit(open_gate_while_it_stops)
        assert answer.result().status_code == 200


def test_alive_but_not_ready_while_the_model_loads(tiny, spec, monkeypatch, encode, picture):
    loading = threading.Event()

    def load(*_):
        assert loading.wait(PATIENCE_S)
        return tiny

    monkeypatch.setattr(catalog, "load", load)
    with live(create_app(ServerConfig(), [spec]), "/healthz") as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "loading", "models": {"tiny": {"status": "loading"}}}
        assert client.get("/v1/models").status_code == 200
        refused = client.post("/v1/classify", content=encode(picture(64, 64)))
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert (refused.json()["limit"], refused.json()["value"]) == ("ready", "loading")
        loading.set()


def test_a_full_queue_refuses_before_any_pixel_is_decoded(held, tiny, picture, encode):
    """A truncated image tells: whoever decodes it answers 422."""
    good = encode(picture(64, 64))
    client, app, first, pool = held(good, max_queue_tokens=20)
    second = pool.submit(client.post, "/v1/classify", content=good)
    wait_until(lambda: depth(app) == 1)
    answer = client.post("/v1/classify", content=good[:-500])
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    tiny.gate.set()
    assert first.result().status_code == second.result().status_code == 200
    assert client.post("/v1/classify", content=good[:-500]).status_code == 422
