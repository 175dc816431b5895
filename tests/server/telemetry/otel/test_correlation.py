"""From a line of the log, or from a metric, to the trace."""

import json
import logging

import pytest
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from tests.patience import wait_until
from tests.server.telemetry.otel.conftest import NOT_SAMPLED, SAMPLED, TRACE
from vimserve.server.telemetry.logs import formatter
from vimserve.server.telemetry.tracing import TraceFilter

OPENMETRICS = "application/openmetrics-text"
# As Prometheus asks.
ACCEPT = f"{OPENMETRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.fixture
def line(caplog):
    """The record of a request's line in the log."""
    caplog.set_level(logging.INFO, "vimserve.server.telemetry.observe")
    caplog.handler.addFilter(TraceFilter())

    def last():
        name = "vimserve.server.telemetry.observe"
        wait_until(lambda: [record for record in caplog.records if record.name == name])
        return [record for record in caplog.records if record.name == name][-1]

    return last


def test_lines_have_the_ids(traced, spans, line, picture, encode):
    traced().post("/v1/classify", content=encode(picture(64, 64)))
    context = spans.request().context
    trace_id, span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
    entry = json.loads(formatter("json").format(line()))
    assert (entry["trace_id"], entry["span_id"]) == (trace_id, span_id)
    text = formatter("text").format(line())
    assert text.endswith(f" ms tiny trace_id={trace_id} span_id={span_id}")


def test_so_have_those_of_requests_that_are_not_sampled(traced, line, picture, encode):
    traced().post("/v1/classify", content=encode(picture(64, 64)), headers=NOT_SAMPLED)
    assert line().trace_id == TRACE


def test_without_tracing_they_have_none(serve, line, picture, encode):
    serve()[0].post("/v1/classify", content=encode(picture(64, 64)), headers=SAMPLED)
    assert "trace_id" not in json.loads(formatter("json").format(line()))
    assert formatter("text").format(line()).endswith(" ms tiny")


def test_an_exceptions_lines_stay_together():
    record = logging.makeLogRecord(
        {
            "msg": "a",
            "exc_info": (ValueError, ValueError("b"), None),
            "trace_id": "1",
            "span_id": "2",
        }
    )
    first, *_, last = formatter("text").format(record).splitlines()
    assert first.endswith("a trace_id=1 span_id=2")
    assert last == "ValueError: b"


def exemplars(client):
    answer = client.get("/metrics", headers={"Accept": ACCEPT})
    assert answer.headers["content-type"].startswith(f"{OPENMETRICS}; version=1.0.0")
    assert answer.headers["vary"] == "Accept"
    return {
        (sample.name, sample.labels.get("stage")): sample.exemplar
        for family in openmetrics(answer.text)
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_latencies_have_exemplars(traced, spans, picture, encode):
    client = traced()
    answer = client.post("/v1/classify", content=encode(picture(64, 64))).json()
    context = spans.request().context
    wait_until(lambda: len(exemplars(client)) == 5)
    found = exemplars(client)
    assert sorted(found, key=str) == [
        ("vimserve_request_seconds_bucket", None),
        *(
            ("vimserve_stage_seconds_bucket", stage)
            for stage in ("decode", "inference", "postprocess", "queue")
        ),
    ]
    ids = {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
    for exemplar in found.values():
        assert exemplar.labels == ids
    decode_s = found["vimserve_stage_seconds_bucket", "decode"].value
    assert decode_s == pytest.approx(answer["timing_ms"]["decode"] / 1e3, abs=1e-6)


def test_what_will_not_be_found_is_no_exemplar(traced, serve, spans, picture, encode):
    good = encode(picture(64, 64))
    for client, headers in ((traced(), NOT_SAMPLED), (serve()[0], SAMPLED)):
        assert client.post("/v1/classify", content=good, headers=headers).status_code == 200
        assert not exemplars(client)


def test_others_get_plain_text(traced, spans, picture, encode):
    client = traced()
    client.post("/v1/classify", content=encode(picture(64, 64)))
    wait_until(lambda: exemplars(client))
    for headers in ({}, *({"Accept": kind} for kind in ("*/*", "text/plain", "text/html", "x"))):
        answer = client.get("/metrics", headers=headers)
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "# {" not in answer.text
        names = {family.name for family in plain_text(answer.text)}
        assert "vimserve_request_seconds" in names


def test_both_formats_have_the_same_metrics(client):
    plain = {family.name for family in plain_text(client.get("/metrics").text)}
    rich = client.get("/metrics", headers={"Accept": ACCEPT}).text
    assert {family.name for family in openmetrics(rich)} == plain
