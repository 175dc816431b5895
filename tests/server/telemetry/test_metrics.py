import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import wait_until
from tests.server import raw
from vimserve.model import threads
from vimserve.server.engine.cost import CostModel
from vimserve.server.errors import ModelFailure, QueueFull, ServerError
from vimserve.server.telemetry.metrics import Metrics, resolution_bucket


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((96, 96), "224"),
        ((224, 224), "224"),
        ((112, 448), "224"),
        ((224, 240), "512"),
        ((1024, 1024), "1024"),
        ((1248, 1248), "1248"),
        ((1248, 1264), "larger"),
    ],
)
def test_resolution_bucket(size, bucket):
    assert resolution_bucket(*size) == bucket


def scrape(client):
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name.removeprefix("vimserve_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_every_metric_of_a_few_requests(serve, picture, encode):
    client, _ = serve()
    good = encode(picture(64, 64))
    client.post("/v1/classify", content=good)
    client.post("/v1/classify?resolution=512", files=[("file", ("a", good)), ("file", ("b", good))])
    client.post("/v1/classify", content=b"bad")
    client.post("/v1/classify?top_k=0", content=good)
    client.post("/v1/classify?model=made-up", content=good)
    client.post("/made-up")
    after = scrape(client)

    assert after["requests_total", "200", "classify", "tiny"] == 2
    assert after["requests_total", "415", "classify", "tiny"] == 1
    assert after["requests_total", "", "", "422"] == 1
    assert after["requests_total", "", "404", "classify"] == 1
    assert after["requests_total", "", "", "404"] == 1
    assert after["request_seconds_count", "224", "classify", "tiny"] == 1
    assert after["request_seconds_count", "512", "classify", "tiny"] == 1
    for stage in ("decode", "queue", "inference", "postprocess"):
        assert after["stage_seconds_count", *sorted((stage, "tiny"))] == 2
    assert after["batch_images_sum", "tiny"] == 3
    assert after["batch_tokens_sum", "tiny"] == 17 + 2 * 1025
    assert after["rejected_total", "unsupported-image"] == 1
    assert after["rejected_total", "invalid-parameter"] == 1
    assert after["rejected_total", "unknown-model"] == 1
    assert after["queue_depth", "tiny"] == 0
    assert after["inflight",] == 0
    assert after["model_info", "1234", "cpu", "float32", "none", "tiny", "vim"] == 1


def test_applications_do_not_share_their_counts(serve):
    first, second = serve()[0], serve()[0]
    first.post("/v1/classify", content=b"bad")
    assert ("requests_total", "415", "classify", "tiny") in scrape(first)
    assert ("requests_total", "415", "classify", "tiny") not in scrape(second)


NAMES = {
    "requests": "counter",
    "request_seconds": "histogram",
    "stage_seconds": "histogram",
    "batch_images": "histogram",
    "batch_tokens": "histogram",
    "queue_depth": "gauge",
    "queue_tokens": "gauge",
    "tokens": "counter",
    "batch_retries": "counter",
    "batch_peak_memory_bytes": "histogram",
    "batch_predicted_memory_bytes": "histogram",
    "device_busy_seconds": "counter",
    "inflight": "gauge",
    "threads": "gauge",
    "rejected": "counter",
    "model_info": "gauge",
    "failed_seconds": "counter",
    "last_answer_timestamp_seconds": "gauge",
}


def test_the_metrics_that_there_are(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    types = {family.name.removeprefix("vimserve_"): family.type for family in families}
    assert types == NAMES


def test_what_is_under_way_and_what_waits(held, tiny, picture, encode):
    data = encode(picture(64, 64))
    client, _, first, pool = held(data)
    second = pool.submit(client.post, "/v1/classify", content=data)
    wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 1)
    assert scrape(client)["inflight",] == 2
    tiny.gate.set()
    assert first.result().status_code == second.result().status_code == 200
    wait_until(lambda: scrape(client)["inflight",] == 0)
    assert scrape(client)["queue_depth", "tiny"] == 0


def reasons(error=ServerError):
    """The slugs of all errors that can be raised."""
    below = error.__subclasses__()
    return {error.slug} if not below else set().union(*map(reasons, below))


@pytest.fixture
def refusals(serve, held, tiny, connect, monkeypatch, picture, encode):
    """``refusals[reason](reason)``: a client of a server that has refused for that reason."""
    good = encode(picture(64, 64))

    def post(query="", path="/v1/classify", **request):
        settings = request.pop("settings", {})

        def ask():
            client, _ = serve(**settings)
            client.post(f"{path}{query}", **(request or {"content": good}))
            return client

        return ask

    def stalled():
        client, _ = serve(request_timeout=0.2)
        assert raw.answer(connect(client, raw.post(good)[:-100]))[0] == 408
        return client

    def full():
        client, _, _, pool = held(good, max_queue_tokens=20)
        answers = [pool.submit(client.post, "/v1/classify", content=good) for _ in range(3)]
        wait_until(lambda: any(answer.done() for answer in answers))
        return client

    def overdue():
        client, app, _, pool = held(good)
        app.state.engine._backlog._costs["tiny"] = CostModel(launch=10_000)
        pool.submit(client.post, "/v1/classify", content=good)
        wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 1)
        client.post("/v1/classify", content=good, headers={"X-Request-Priority": "9"})
        return client

    def late():
        client, _, _, _ = held(good, request_timeout=0.3)
        assert raw.answer(connect(client, raw.post(good)))[0] == 504
        return client

    def left():
        client, _, _, _ = held(good)
        leaving = connect(client, raw.post(good))
        wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 1)
        leaving.close()
        return client

    def stopping():
        client, app = serve()
        app.state.drain.begin()
        client.post("/v1/classify", content=good)
        return client

    def failing():
        client, _ = serve()
        tiny.failures = [RuntimeError("boom")]
        client.post("/v1/classify", content=good)
        return client

    def crowded():
        client, _ = serve()
        tiny.failures = [MemoryError()]
        client.post("/v1/classify", content=good)
        return client

    def unavailable():
        client, app = serve()
        app.state.engine.models["tiny"].loaded = None
        client.post("/v1/classify", content=good)
        return client

    def unforeseen():
        client, _ = serve()
        monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
        client.post("/v1/classify", content=good)
        return client

    def locked():
        client, _ = serve(api_key="correct-horse-battery", public_metrics=True)
        client.post("/v1/classify", content=good)
        return client

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    return {
        "invalid-parameter": post("?top_k=0"),
        "unknown-model": post("?model=x"),
        "unauthorized": locked,
        "wrong-task": post(path="/v1/segment"),
        "malformed-request": post(path="/models/tiny", content=b"{"),
        "unknown-version": post(path="/v2/models/tiny/versions/2/infer"),
        "forbidden": post(path="/v2/repository/models/tiny/load"),
        "empty-body": post(content=b""),
        "missing-file": post(files={"image": ("a.png", b"x")}),
        "malformed-multipart": post(content=b"x", headers=form),
        "malformed-encoding": post(content=good, headers={"Content-Encoding": "gzip"}),
        "unsupported-encoding": post(content=good, headers={"Content-Encoding": "br"}),
        "unsupported-image": post(content=b"bad"),
        "corrupt-image": post(content=good[:-500]),
        "body-too-large": post(settings={"max_body_bytes": 10}),
        "image-too-large": post(settings={"max_pixels": 10}),
        "image-too-complex": post(content=good[:33] + good[8:33] * 5000 + good[33:]),
        "too-many-images": post(
            settings={"max_images": 1}, files=[("file", ("a", good)), ("file", ("b", good))]
        ),
        "too-many-parts": post(content=200 * b"--x\r\n\r\n\r\n", headers=form),
        "upload-timeout": stalled,
        "queue-full": full,
        "too-late": overdue,
        "request-timeout": late,
        "client-gone": left,
        "not-ready": stopping,
        "model-failure": failing,
        "internal-error": unforeseen,
        "out-of-memory": crowded,
        "model-unavailable": unavailable,
    }


REASONS = sorted(reasons() | {"client-gone", "internal-error"})


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_to_refuse_is_counted(refusals, reason, tiny):
    client = refusals[reason]()
    wait_until(lambda: scrape(client).get(("rejected_total", reason), 0) >= 1)
    counted = {key[1] for key in scrape(client) if key[0] == "rejected_total"}
    assert counted == {reason}
    tiny.gate.set()


def test_the_errors_own_reasons_are_told_apart():
    assert {QueueFull.slug, ModelFailure.slug} <= set(REASONS)
    assert len(REASONS) == 29


def test_scrapes_at_once(client, picture, encode):
    data = encode(picture(64, 64))
    with ThreadPoolExecutor(4) as pool:
        posts = [pool.submit(client.post, "/v1/classify", content=data) for _ in range(8)]
        scrapes = [pool.submit(scrape, client) for _ in range(8)]
        assert all(post.result().status_code == 200 for post in posts)
        assert all(seen.result() for seen in scrapes)


def test_what_a_batch_took(serve, tiny, picture, encode):
    start = time.monotonic()
    client, _ = serve()
    good = encode(picture(64, 64))
    client.post("/v1/classify?resolution=512", content=good)
    seen = scrape(client)
    assert seen["tokens_total", "tiny"] == 32 * 32 + 1
    assert 0 < seen["device_busy_seconds_total", "cpu"] < time.monotonic() - start
    assert (seen["queue_depth", "tiny"], seen["queue_tokens", "tiny"]) == (0, 0)
    assert seen["batch_peak_memory_bytes_count", "512", "tiny"] == 1
    assert seen["batch_predicted_memory_bytes_count", "512", "tiny"] == 1
    assert seen["batch_predicted_memory_bytes_sum", "512", "tiny"] > 0
    tiny.failures = [RuntimeError("boom")]
    client.post("/v1/classify", content=good)
    tiny.failures = [MemoryError()]
    client.post("/v1/classify", content=good)
    seen = scrape(client)
    assert [seen["batch_retries_total", why, "tiny"] for why in ("exception", "memory")] == [1, 1]


def test_what_waits(held, tiny, picture, encode):
    good = encode(picture(64, 64))
    client, _, first, pool = held(good)
    waiting = [pool.submit(client.post, "/v1/classify", content=good) for _ in range(2)]
    wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 2)
    assert scrape(client)["queue_tokens", "tiny"] == 2 * 17
    tiny.gate.set()
    assert [answer.result().status_code for answer in (first, *waiting)] == [200] * 3


def test_threads_in_use(monkeypatch):
    monkeypatch.setattr(threads._Process, "in_use", 3)
    assert Metrics().registry.get_sample_value("vimserve_threads") == 3
