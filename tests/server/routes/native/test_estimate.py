"""GET /v1/estimate tells what the task's own route then answers, or refuses."""

import dataclasses
import io
import re

import httpx2
import pytest
from PIL import Image

from tests.patience import wait_until
from tests.server.live import live
from vimserve.model.catalog import resolve
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.engine import loading
from vimserve.server.engine.cost import CostCurve, CostModel
from vimserve.server.engine.memory import MemoryModel
from vimserve.server.engine.model_queue import Budget

SIZES = [(1, 1), (16, 16), (97, 31), (160, 160), (130, 300), (24, 500), (500, 333)]
MODELS = {"demo": "classify", "demo-seg": "segment"}
QUERIES = {
    "demo": [
        {}, {"resolution": "64"}, {"resolution": "33", "fit": "contain"}, {"fit": "contain"},
        {"resolution": "native"}, {"resolution": "native", "fit": "contain", "top_k": "3"},
        {"range": "p2,p98", "bands": "3,2,1"},
    ],
    "demo-seg": [
        {}, {"resolution": "100"}, {"resolution": "native", "fit": "contain"}, {"mode": "slide"},
        {"mode": "slide", "window": "128"}, {"mode": "slide", "window": "256"},
        {"mode": "slide", "window": "128", "resolution": "native"},
    ],
}  # fmt: skip
CASES = [(model, query) for model, queries in QUERIES.items() for query in queries]
PREDICTED = re.compile(r"^vimserve_batch_predicted_memory_bytes_sum\{.*\} (.*)$", re.MULTILINE)


def flat(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client():
    """A server with a small limit of everything, so that much is refused."""
    config = ServerConfig(max_resolution=512, max_pixels=200_000)
    with live(create_app(config, [resolve(name) for name in MODELS])) as client:
        yield client


def estimate(client, size, headers=None, **query):
    height, width = size
    asked = {"height": str(height), "width": str(width), **query}
    return client.get("/v1/estimate", params=asked, headers=headers)


def predicted(client: httpx2.Client) -> float:
    """Bytes that the engine expected of all batches until now."""
    return sum(map(float, PREDICTED.findall(client.get("/metrics").text)))


@pytest.mark.parametrize(("model", "query"), CASES, ids=str)
def test_it_is_what_an_answer_reports(client, model, query):
    for size in SIZES:
        before = predicted(client)
        told = client.post(f"/v1/{MODELS[model]}", params=query, content=flat(*size))
        bytes_of_batches = predicted(client) - before
        guess = estimate(client, size, model=model, **query)
        assert guess.status_code == told.status_code == 200, (told.text, guess.text)
        (result,), guess = told.json()["results"], guess.json()
        assert guess["model"] == model
        assert guess["input"].items() <= result["input"].items()
        assert guess["tokens"] == told.json()["batch"]["tokens"]
        assert guess["windows"] == result.get("windows", 1)
        assert guess["peak_memory_bytes"] == round(bytes_of_batches)
        assert guess["queue_ms"] == 0


@pytest.mark.parametrize(
    ("model", "size", "query"),
    [
        ("demo", (400, 501), {}),  # 200,400 pixels
        ("demo", (8, 529), {"resolution": "native", "fit": "contain"}),
        ("demo-seg", (8, 529), {"resolution": "native"}),
        ("demo-seg", (100, 200), {"mode": "slide", "window": "100"}),
        ("demo-seg", (100, 200), {"mode": "slide", "window": "528"}),
        ("demo-seg", (100, 200), {"window": "128"}),
        ("demo-seg", (100, 200), {"mode": "tiles"}),
        ("demo-seg", (100, 200), {"fit": "crop"}),
        ("demo", (100, 200), {"fit": "stretch"}),
        ("demo", (100, 200), {"resolution": "513"}),
        ("demo", (100, 200), {"resolution": "0"}),
        ("demo", (100, 200), {"resolution": "2e2"}),
        ("demo", (100, 200), {"top_k": "1001"}),
        ("demo", (100, 200), {"top_k": "0"}),
        ("demo", (100, 200), {"top_k": "5.0"}),
        ("demo", (100, 200), {"range": "9"}),
        ("demo", (100, 200), {"bands": "0"}),
        ("nobody", (100, 200), {}),
    ],
)
def test_it_refuses_what_the_task_refuses(client, model, size, query):
    route = f"/v1/{MODELS.get(model, 'classify')}"
    told = client.post(route, params={"model": model, **query}, content=flat(*size))
    guess = estimate(client, size, model=model, **query)
    assert guess.status_code == told.status_code >= 400
    assert guess.headers["content-type"] == told.headers["content-type"]
    ignored = {"request_id": None}
    assert guess.json() | ignored == told.json() | ignored


@pytest.mark.parametrize(
    ("query", "parameter", "limit"),
    [
        ({"width": "0"}, "width", 1),
        ({"width": "1.5"}, "width", None),
        ({"height": "-3"}, "height", 1),
        ({"model": "demo", "window": "512"}, "window", "height width model range bands top_k"),
        ({"model": "demo-seg", "top_k": "5"}, "top_k", "height width model range bands mode"),
        ({"side": "5"}, "side", "height width model range bands top_k mode window"),
    ],
)
def test_what_it_cannot_be_asked(client, query, parameter, limit):
    answer = estimate(client, (100, 200), **query)
    problem = answer.json()
    assert (answer.status_code, problem["parameter"]) == (422, parameter)
    if isinstance(limit, str):
        assert {*limit.split()} <= {*problem["limit"]}
    else:
        assert limit is None or problem["limit"] == limit


def test_without_a_model_it_is_that_of_the_default_one(client):
    assert estimate(client, (100, 200)).json()["model"] == "demo"
    problem = client.get("/v1/estimate?height=1").json()
    assert (problem["status"], problem["parameter"]) == (422, "width")


def test_a_busy_server(held, tiny, picture, encode, monkeypatch):
    """It counts what waits, by priority, and is refused as the request would be."""
    seconds = CostModel(launch=0.1, per_token=0.01)
    monkeypatch.setattr(
        CostCurve, "observe", lambda curve, lengths, took: setattr(curve, "model", seconds)
    )
    data = encode(picture(64, 64))  # 17 tokens
    client, app, first, pool = held(data, max_queue_tokens=100)
    tiny.gate.set()
    first.result()
    guess = estimate(client, (64, 64)).json()
    assert guess["inference_ms"] == pytest.approx(100 + 170)
    assert guess["queue_ms"] == 0

    tiny.gate.clear()
    running = pool.submit(client.post, "/v1/classify", content=data)
    tiny.wait_for_batch()
    waiting = [pool.submit(client.post, "/v1/classify", content=data) for _ in range(5)]
    depth = app.state.metrics.queue_depth.labels("tiny")
    wait_until(lambda: depth._value.get() == 5)
    full = estimate(client, (64, 64))
    assert (full.status_code, full.headers.keys() >= {"retry-after"}) == (429, True)
    assert full.json()["type"] == "urn:vimserve:problem:queue-full"
    later = estimate(client, (64, 64), {"X-Request-Timeout-Ms": "100"}, resolution="16")
    assert later.json()["type"] == "urn:vimserve:problem:too-late"
    guesses = [
        estimate(client, (64, 64), {"X-Request-Priority": str(priority)}, resolution="16")
        for priority in (1, 9)
    ]
    sooner, last = (guess.json()["queue_ms"] for guess in guesses)
    # Meanwhile what is left of the batch that runs may have shrunk.
    assert last - sooner == pytest.approx(100 + 5 * 170, abs=271)
    tiny.gate.set()
    assert {one.result().status_code for one in [running, *waiting]} == {200}


def test_nothing_is_known_before_the_first_batch(serve):
    fresh, _ = serve()
    assert estimate(fresh, (64, 64)).json()["inference_ms"] is None


def test_a_server_that_is_not_ready(spec, tiny):
    tiny.gate.clear()
    with live(create_app(ServerConfig(), [spec]), path="/healthz") as client:
        answer = estimate(client, (64, 64))
        assert (answer.status_code, answer.json()["value"]) == (503, "loading")
        tiny.gate.set()


def test_several_batches_peak_at_the_largest(spec):
    unused = None
    memory = MemoryModel(base=1000, per_token=10, per_token_squared=1)
    for budget, batches in [
        (Budget(100), [4, 4, 2]),
        (Budget(1000, memory_bytes=2000), [2] * 5),
        (Budget(1000), [10]),
    ]:
        loaded = loading.Loaded(unused, memory, budget, 0)  # type: ignore[arg-type]
        assert loaded.predict_peak([25] * 10) == memory.predict([25] * max(batches))
    assert dataclasses.replace(loaded, budget=Budget(30)).predict_peak([9, 20, 30]) == (
        memory.predict([30])
    )
