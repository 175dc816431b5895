"""The router answers as the single server does, whichever replica it is that answers."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.patience import wait_until
from tests.server.cluster.conftest import hold

KEY = "a key of the cluster".replace(" ", "-")
# Of a request's own, or of its time.
OWN = {"date", "x-request-id", "server-timing", "location"}
OF_THE_REQUEST = {"request_id", "timing_ms", "batch", "peak_memory_bytes"}


@pytest.fixture
def png(picture, encode):
    return encode(picture(48, 64))


def requests(png):
    form = {"files": {"file": ("a.png", png)}}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    body = {"inputs": [tensor | {"data": [base64.b64encode(png).decode()]}]}
    return {
        "raw": ("POST", "/v1/classify", {"content": png}),
        "query": ("POST", "/v1/classify?model=tiny&top_k=2", {"content": png}),
        "form": ("POST", "/v1/classify", form),
        "rubbish": ("POST", "/v1/classify", {"content": b"rubbish"}),
        "empty": ("POST", "/v1/classify", {}),
        "truncated": ("POST", "/v1/classify", {"content": png[:60]}),
        "too large": ("POST", "/v1/classify", {"content": bytes(2**20 + 1)}),
        "wrong parameter": ("POST", "/v1/classify?top_k=zero", {"content": png}),
        "misspelt": ("POST", "/v1/classify?topk=1", {"content": png}),
        "wrong header": ("POST", "/v1/classify", {"content": png, "headers": PRIORITY}),
        "unknown model": ("POST", "/v1/classify?model=other", {"content": png}),
        "wrong task": ("POST", "/v1/segment", {"content": png}),
        "wrong coding": ("POST", "/v1/classify", {"content": png, "headers": BROTLI}),
        "wrong method": ("DELETE", "/v1/classify", {}),
        "no such path": ("GET", "/v1/nothing", {}),
        "quoted path": ("GET", "/v1/%7Enothing%2F%20?a=%2B&b=é", {}),
        "head": ("HEAD", "/v1/models", {}),
        "models": ("GET", "/v1/models", {}),
        "estimate": ("GET", "/v1/estimate?height=100&width=200", {}),
        "openapi": ("GET", "/openapi.json", {}),
        "page": ("GET", "/", {}),
        "hugging face": ("POST", "/models/tiny", {"content": png}),
        "hugging face, default": ("POST", "/", {"content": png}),
        "hugging face, unknown": ("POST", "/models/other", {"content": png}),
        "information": ("GET", "/info", {}),
        "open inference": ("POST", "/v2/models/tiny/infer", {"json": body}),
        "open inference, rubbish": ("POST", "/v2/models/tiny/infer", {"content": b"{"}),
        "open inference, model": ("GET", "/v2/models/tiny", {}),
        "open inference, server": ("GET", "/v2", {}),
        "open inference, live": ("GET", "/v2/health/live", {}),
        "open inference, ready": ("GET", "/v2/health/ready", {}),
        "open inference, index": ("POST", "/v2/repository/index", {}),
        "no control": ("POST", "/v2/repository/models/tiny/load", {}),
        "no job": ("GET", "/v1/jobs/nothing", {}),
        "alive": ("GET", "/healthz", {}),
        "probe": ("GET", "/healthz?probe=true", {}),
        "wrong probe": ("GET", "/healthz?probe=maybe", {}),
        "ready": ("GET", "/readyz", {}),
    }


PRIORITY = {"X-Request-Priority": "urgent"}
BROTLI = {"Content-Encoding": "br"}


def without_times(answer):
    """Status, headers and body without what differs from one request to the next."""
    headers = {name: text for name, text in answer.headers.items() if name not in OWN}
    try:
        body = json.loads(answer.content)
    except ValueError:
        return answer.status_code, headers, answer.content
    if isinstance(body, dict):
        body = {name: part for name, part in body.items() if name not in OF_THE_REQUEST}
    headers.pop("content-length")
    return answer.status_code, headers, body


def test_everything_is_answered_alike(fleet, serve_tiny, png):
    limits = {"max_body_bytes": 2**20}
    with serve_tiny(**limits) as alone:
        expected = {name: alone.request(*one[:2], **one[2]) for name, one in requests(png).items()}
    for name in ("a", "b"):
        fleet.add(name, **limits)
    client = fleet.client(**limits)
    for name, (method, path, options) in requests(png).items():
        answer = client.request(method, path, **options)
        assert without_times(answer) == without_times(expected[name]), name
        assert answer.headers["x-request-id"], name


def test_a_request_keeps_its_id(fleet, png):
    fleet.add("a")
    client = fleet.client()
    headers = {"X-Request-Id": "mine"}
    answer = client.post("/v1/classify", content=b"rubbish", headers=headers)
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert answer.json()["request_id"] == "mine"


def test_the_first_image_takes_turns_by_tokens(fleet, png, picture, encode):
    """While no replica has reported anew, each request goes where fewer tokens were sent."""
    models = [fleet.add(name) for name in ("a", "b")]
    client = fleet.client()
    for model in models:
        hold(model)
        model.batches.clear()
    with ThreadPoolExecutor(4) as pool:
        large = encode(picture(64, 64))
        first = pool.submit(client.post, "/v1/classify", content=large)
        fleet.wait_for_work()
        second = pool.submit(client.post, "/v1/classify", content=large)
        wait_until(lambda: sum(len(model.batches) for model in models) == 2)
        assert [len(model.batches) for model in models] == [1, 1]
        for model in models:
            model.gate.set()
        assert {first.result().status_code, second.result().status_code} == {200}


def test_a_body_that_comes_in_chunks(fleet, png):
    fleet.add("a")
    client = fleet.client()
    chunks = (png[start : start + 100] for start in range(0, len(png), 100))
    assert client.post("/v1/classify", content=chunks).status_code == 200


def is_done(client, job):
    return client.get(job).json()["status"] == "done"


def test_jobs_are_found_at_their_replica(fleet, png):
    models = [fleet.add(name) for name in ("a", "b")]
    client = fleet.client()
    for model in models:
        hold(model)
    posted = [client.post("/v1/jobs", content=png)]
    fleet.wait_for_work()
    posted.append(client.post("/v1/jobs", content=png))
    assert len({one.json()["id"].partition("-")[0] for one in posted}) == 2
    for model in models:
        model.gate.set()
    for one in posted:
        path = one.headers["location"]
        wait_until(partial(is_done, client, path))
        assert client.get(f"{path}/result").status_code == 200
        assert client.delete(path).status_code == 204


def test_keys(fleet, png):
    settings = {"api_key": KEY, "cors_origin": ("https://example.org",)}
    fleet.add("a", api_key=KEY)
    client = fleet.client(**settings)
    assert client.post("/v1/classify", content=png).status_code == 401
    assert client.get("/metrics").status_code == 401
    assert client.get("/readyz").status_code == 200
    headers = {"Authorization": f"Bearer {KEY}", "Origin": "https://example.org"}
    answer = client.post("/v1/classify", content=png, headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get_list("access-control-allow-origin") == ["https://example.org"]
    assert 'reason="unauthorized"' in client.get("/metrics", headers=headers).text
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/classify", headers=asked).status_code == 200


def test_a_prefix(fleet, png):
    fleet.add("a", root_path="/vision")
    client = fleet.client(root_path="/vision")
    for path in ("/v1/classify", "/vision/v1/classify"):
        assert client.post(path, content=png).status_code == 200
    assert client.get("/vision/readyz").status_code == 200
    assert 'vimserve_requests_total{model="tiny",replica="a"' in client.get("/metrics").text
    assert client.post("/vision/v1/jobs", content=png).headers["location"].startswith("/vision/v1")


def test_placement(fleet, png):
    for name in ("one", "two"):
        fleet.add(name, name, group=name)
    client = fleet.client("one", "two")
    assert client.post("/v1/classify", content=png).json()["model"] == "one"
    for name in ("one", "two"):
        answer = client.post(f"/v1/classify?model={name}", content=png)
        assert answer.json()["model"] == name
        assert client.get(f"/v2/models/{name}").json()["name"] == name
    assert [one["name"] for one in client.get("/v1/models").json()["models"]] == ["one", "two"]
    index = client.post("/v2/repository/index").json()
    assert [one["name"] for one in index] == ["one", "two"]
    unknown = client.post("/v1/classify?model=three", content=png)
    assert unknown.status_code == 404
    assert unknown.json()["limit"] == ["one", "two"]
    fleet.stop("two")
    fleet.wait_for({"one"})
    assert client.get("/readyz").json()["models"] == {
        "one": {"status": "ready"},
        "two": {"status": "loading"},
    }
    assert client.post("/v1/classify?model=two", content=png).status_code == 503


def test_statistics_are_sums(fleet, png):
    for name in ("a", "b"):
        fleet.add(name)
    client = fleet.client()
    for _ in range(4):
        client.post("/v1/classify", content=png)
    for path in ("/v2/models/stats", "/v2/models/tiny/stats"):
        (model,) = client.get(path).json()["model_stats"]
        assert model["inference_stats"]["success"]["count"] == 4
    text = client.get("/metrics").text
    for name in ("a", "b"):
        assert f'vimserve_cluster_queue_seconds{{group="all",replica="{name}"}}' in text
    assert 'vimserve_cluster_replicas{group="all",state="running"} 2' in text
    assert 'vimserve_cluster_replicas{group="all",state="starting"} 1' in text


def test_all_replicas_load_a_model_anew(fleet, png):
    for name in ("a", "b"):
        fleet.add(name, model_control=True)
    client = fleet.client(model_control=True)
    before = len(fleet.loaded)
    answer = client.post("/v2/repository/models/tiny/load")
    assert answer.json() == {"name": "tiny", "state": "READY"}
    assert len(fleet.loaded) == before + 2
    assert client.post("/v2/repository/models/other/load").status_code == 404
    assert client.post("/v2/repository/models/tiny/unload").status_code == 200
    wait_until(lambda: client.get("/readyz").json() == {"status": "ready", "models": {}})
    assert client.post("/v1/classify?model=tiny", content=png).status_code == 404
    assert client.post("/v2/repository/models/tiny/load").status_code == 200
    wait_until(lambda: client.get("/readyz").json()["models"])
    assert client.post("/v1/classify?model=tiny", content=png).status_code == 200
