import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import wait_until
from tests.server.telemetry.scraping import scrape
from vimserve.model import threads
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
    "jobs": "gauge",
    "jobs_finished": "counter",
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
