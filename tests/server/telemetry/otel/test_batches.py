"""Batches that several requests ride in, and those that fail."""

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from tests.patience import wait_until
from tests.server.telemetry.otel.conftest import NOT_SAMPLED
from vimserve.server.telemetry.metrics import BatchFigures
from vimserve.server.telemetry.otel.spans import Recorded
from vimserve.server.telemetry.tracing import NO_TRACE, BatchTrace, begin_batch, current

UNSET, ERROR = StatusCode.UNSET, StatusCode.ERROR


@pytest.fixture
def waiting(held_traced, tiny, spans, picture, encode):
    """``waiting(*headers)``: answers of requests with these headers, which ride in one batch."""

    def send(*headers, failures=()):
        good = encode(picture(64, 64))
        client, app, first, pool = held_traced(good)
        answers = [
            pool.submit(client.post, "/v1/classify", content=good, headers=one) for one in headers
        ]
        depth = app.state.metrics.registry
        wait_until(
            lambda: (
                depth.get_sample_value("vimserve_queue_depth", {"model": "tiny"}) == len(headers)
            )
        )

        def fail(batch):
            tiny.check = lambda batch: None
            if failures:
                tiny.failures = list(failures)

        tiny.check = fail
        tiny.gate.set()
        assert first.result().status_code == 200
        return [answer.result() for answer in answers]

    return send


def rider(trace) -> Any:
    return SimpleNamespace(trace=trace, model="late", tokens=5)


def contexts(links):
    return {link.context.span_id for link in links}


def test_requests_in_one_batch(waiting, spans):
    waiting({}, {}, {})
    requests = spans.named("POST /v1/classify", 4)
    first, batch = spans.named("batch", 2)
    assert batch.attributes["vimserve.images"] == 3
    assert batch.attributes["vimserve.tokens"] == 3 * 17
    assert len(batch.links) == 3
    assert contexts(batch.links) | contexts(first.links) == {
        request.context.span_id for request in requests
    }
    for request in requests:
        inference = spans.below(request)["inference"]
        own = first if request.context.span_id in contexts(first.links) else batch
        assert contexts(inference.links) == {own.context.span_id}
        assert inference.attributes["vimserve.images"] == 1
        assert inference.start_time == own.start_time


def test_a_queue_ends_when_the_batch_begins(waiting, spans):
    waiting({})
    late = spans.named("POST /v1/classify", 2)[1]
    first, second = spans.named("batch", 2)
    queue = spans.below(late)["queue"]
    assert queue.start_time < first.end_time <= queue.end_time <= second.start_time


def test_images_of_one_request(traced, spans, picture, encode):
    files = [("file", (name, encode(picture(64, 64)))) for name in "ab"]
    traced().post("/v1/classify", files=files)
    request, batch = spans.request(), spans.named("batch")
    inference = spans.below(request)["inference"]
    assert [link.context for link in batch.links] == [request.context]
    assert batch.attributes["vimserve.images"] == inference.attributes["vimserve.images"] == 2
    assert batch.attributes["vimserve.tokens"] == inference.attributes["vimserve.tokens"] == 34


def test_a_request_in_two_batches(traced, spans, picture, encode):
    files = [("file", (name, encode(picture(64, 64)))) for name in "ab"]
    traced(max_batch_tokens=20, max_resolution=64).post("/v1/classify", files=files)
    spans.request()
    first, second = spans.named("batch", 2)
    parts = spans.named("inference", 2)
    assert [part.links[0].context for part in parts] == [first.context, second.context]
    assert spans.named("queue").end_time <= first.start_time


def test_only_the_sampled_ones_are_linked(waiting, spans):
    waiting({}, NOT_SAMPLED)
    spans.named("POST /v1/classify", 2)
    batch = spans.named("batch", 2)[1]
    assert batch.attributes["vimserve.images"] == 2
    assert len(batch.links) == 1
    assert len(spans.named("inference", 2)) == 2


def test_a_batch_of_requests_that_nobody_samples(waiting, spans):
    waiting(NOT_SAMPLED, NOT_SAMPLED)
    spans.request()
    assert len(spans.named("batch").links) == 1  # that of the first request


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_a_batch_that_is_run_again_in_parts(waiting, spans, failure):
    answers = waiting({}, {}, failures=[failure("boom")])
    assert [answer.status_code for answer in answers] == [200, 200]
    requests = spans.named("POST /v1/classify", 3)[1:]
    _, failed, *again = spans.named("batch", 4)
    assert failed.status.status_code is ERROR
    assert failed.attributes["error.type"] == failure.__name__
    assert not failed.attributes["vimserve.retried"]
    (event,) = failed.events
    assert event.attributes["exception.message"] == "boom"
    assert len(failed.links) == 2
    for batch in again:
        assert batch.attributes["vimserve.retried"]
        assert batch.status.status_code is UNSET
        assert len(batch.links) == 1
        assert batch.start_time >= failed.end_time
    for request in requests:
        assert request.status.status_code is UNSET
        tried, done = [
            one for one in spans.named("inference", 5)
            if one.parent.span_id == request.context.span_id
        ]  # fmt: skip
        assert (tried.status.status_code, done.status.status_code) == (ERROR, UNSET)
        assert contexts(tried.links) == {failed.context.span_id}
        assert contexts(done.links) <= {batch.context.span_id for batch in again}


@pytest.mark.parametrize(("failure", "status"), [(MemoryError, 503), (RuntimeError, 500)])
def test_a_request_whose_batch_fails(traced, tiny, spans, picture, encode, failure, status):
    client = traced()
    tiny.failures = [failure("boom")]
    assert client.post("/v1/classify", content=encode(picture(64, 64))).status_code == status
    request = spans.request()
    assert request.status.status_code is ERROR
    stages = spans.below(request)
    assert sorted(stages) == ["decode", "inference", "queue", "upload"]
    assert stages["inference"].attributes["error.type"] == failure.__name__
    assert stages["inference"].status.description == "boom"
    assert stages["queue"].status.status_code is UNSET


def test_a_batch_that_was_launched_while_another_computed(spans):
    """Its span is the time that the device had for it, of which the worker knows the length."""
    figures = BatchFigures("late", 1, 5, (8, 8), peak_bytes=1, predicted_bytes=2)
    tracers = spans.tracing.tracers
    with Recorded(tracers, tracers.requests.start_span("request")).stage("queue", model="late"):
        begin_batch([rider(current.get())]).end(figures, seconds=0)
    batch, queue = spans.named("batch"), spans.named("queue")
    assert queue.end_time <= batch.start_time == batch.end_time


def test_batches_of_requests_without_traces_cost_nothing():
    assert type(begin_batch([rider(NO_TRACE)])) is BatchTrace
