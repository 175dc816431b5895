"""Requests that are refused or given up."""

from opentelemetry.trace import StatusCode

from tests.patience import wait_until
from tests.server import raw

UNSET, ERROR = StatusCode.UNSET, StatusCode.ERROR


def depth(app):
    return app.state.metrics.registry.get_sample_value("vimserve_queue_depth", {"model": "tiny"})


def test_what_the_client_has_to_change(traced, spans, picture, encode):
    client, good = traced(), encode(picture(64, 64))
    for query, data, status, failure in (
        ("?top_k=0", good, 422, {}),
        ("?model=x", good, 404, {}),
        ("", good[:-500], 422, {"decode": "corrupt-image"}),
        ("", b"", 422, {"upload": "empty-body"}),
    ):
        spans.clear()
        assert client.post(f"/v1/classify{query}", content=data).status_code == status
        request = spans.request()
        # It is the client's error, not the server's.
        assert request.status.status_code is UNSET
        assert request.attributes["http.response.status_code"] == status
        assert failed(spans.below(request)) == failure


def failed(stages):
    """What went wrong in those that failed."""
    return {
        name: one.attributes["error.type"] for name, one in stages.items()
        if one.status.status_code is ERROR
    }  # fmt: skip


def test_a_request_without_a_key(traced, spans):
    assert traced(api_key="correct-horse-battery").get("/v1/models").status_code == 401
    assert spans.named("GET").attributes["http.response.status_code"] == 401


def test_a_full_queue(held_traced, tiny, spans, picture, encode):
    good = encode(picture(64, 64))
    client, app, first, pool = held_traced(good, max_queue_tokens=20)
    waiting = pool.submit(client.post, "/v1/classify", content=good)
    wait_until(lambda: depth(app) == 1)
    assert client.post("/v1/classify", content=good).status_code == 429
    request = spans.request()
    assert request.attributes["http.response.status_code"] == 429
    decode = spans.below(request)["decode"]
    assert decode.status.status_code is ERROR
    assert decode.attributes["error.type"] == "queue-full"
    assert decode.status.description.endswith("more than the limit of 20")
    tiny.gate.set()
    assert first.result().status_code == waiting.result().status_code == 200


def test_a_request_that_waits_too_long(held_traced, tiny, spans, picture, encode):
    good = encode(picture(64, 64))
    client, *_ = held_traced(good)
    hurried = {"X-Request-Timeout-Ms": "300"}
    assert client.post("/v1/classify", content=good, headers=hurried).status_code == 504
    request = spans.request()
    assert request.status.status_code is ERROR
    assert request.attributes["error.type"] == "504"
    queue = spans.stage(request, "queue")
    assert queue.status.status_code is ERROR
    assert queue.attributes["error.type"] == "CancelledError"
    assert "inference" not in spans.below(request)


def test_a_request_whose_time_ends_on_the_device(traced, tiny, spans, picture, encode):
    client = traced()
    tiny.gate.clear()
    hurried = {"X-Request-Timeout-Ms": "300"}
    answer = client.post("/v1/classify", content=encode(picture(64, 64)), headers=hurried)
    assert answer.status_code == 504
    request = spans.request()
    assert request.status.status_code is ERROR
    assert spans.stage(request, "queue").status.status_code is UNSET
    assert "inference" not in spans.below(request)
    tiny.gate.set()
    inference, batch = spans.named("inference"), spans.named("batch")
    assert inference.parent.span_id == request.context.span_id
    assert inference.end_time > request.end_time
    assert batch.status.status_code is UNSET


def test_a_client_that_leaves(held_traced, tiny, connect, spans, picture, encode):
    good = encode(picture(64, 64))
    client, app, first, _ = held_traced(good)
    leaving = connect(client, raw.post(good))
    wait_until(lambda: depth(app) == 1)
    leaving.close()
    request = spans.request()
    assert request.attributes["http.response.status_code"] == 499
    assert request.status.status_code is UNSET
    queue = spans.stage(request, "queue")
    assert queue.attributes["error.type"] == "CancelledError"
    tiny.gate.set()
    assert first.result().status_code == 200
    assert len(spans.named("batch").links) == 1


def test_an_upload_that_stalls(traced, connect, spans, picture, encode):
    client = traced(request_timeout=0.2)
    assert raw.answer(connect(client, raw.post(encode(picture(64, 64)))[:-100]))[0] == 408
    upload = spans.stage(spans.request(), "upload")
    assert upload.attributes["error.type"] == "upload-timeout"


def test_an_unforeseen_error(traced, spans, monkeypatch, picture, encode):
    client = traced()
    monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
    headers = {"X-Request-Id": "mine"}
    answer = client.post("/v1/classify", content=encode(picture(64, 64)), headers=headers)
    assert answer.status_code == 500
    request = spans.request()
    assert request.status.status_code is ERROR
    assert request.attributes["http.response.status_code"] == 500
    assert request.attributes["error.type"] == "ZeroDivisionError"
    assert request.attributes["vimserve.request_id"] == "mine"
    postprocess = spans.below(request)["postprocess"]
    assert postprocess.attributes["error.type"] == "ZeroDivisionError"
