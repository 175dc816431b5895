import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import resolution_bucket


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
    before = scrape(client)
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
    assert after["batch_images_sum", "tiny"] - before.get(("batch_images_sum", "tiny"), 0) == 3
    assert after["batch_tokens_sum", "tiny"] - before.get(("batch_tokens_sum", "tiny"), 0) == 17 + 2 * 1025
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
