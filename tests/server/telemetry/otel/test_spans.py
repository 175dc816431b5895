"""What a request looks like as spans."""

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from tests.server.telemetry.otel.conftest import NOT_SAMPLED, PARENT, SAMPLED, TRACE, Spans
from vimserve.server.telemetry.otel.requests import UNTRACED

STAGES = ["upload", "decode", "queue", "inference", "postprocess"]


def test_a_request(traced, spans, picture, encode):
    answer = traced().post("/v1/classify?top_k=1", content=encode(picture(64, 64)))
    request, batch = spans.request(), spans.named("batch")
    stages = spans.below(request)
    assert [span.name for span in spans.all() if span in stages.values()] == STAGES
    assert len(spans.all()) == len(STAGES) + 2

    assert request.kind is SpanKind.SERVER
    assert request.parent is None
    assert request.status.status_code is StatusCode.UNSET
    facts = {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "url.path": "/v1/classify",
        "url.query": "top_k=1",
        "url.scheme": "http",
        "vimserve.model": "tiny",
        "vimserve.task": "classify",
        "vimserve.request_id": answer.headers["X-Request-Id"],
    }
    assert facts.items() <= request.attributes.items()
    for stage in stages.values():
        assert stage.context.trace_id == request.context.trace_id
        assert stage.status.status_code is StatusCode.UNSET
        assert stage.attributes.get("vimserve.model", "tiny") == "tiny"

    assert batch.parent is None
    assert batch.context.trace_id != request.context.trace_id
    peak = answer.json()["batch"]["peak_memory_bytes"]
    assert batch.attributes["vimserve.peak_memory_bytes"] == peak
    assert batch.attributes["vimserve.predicted_memory_bytes"] > 0
    of_batch = {
        "vimserve.model": "tiny",
        "vimserve.images": 1,
        "vimserve.tokens": 17,
        "vimserve.retried": False,
    }
    assert of_batch.items() <= batch.attributes.items()
    assert of_batch == dict(stages["inference"].attributes)


def test_the_batch_and_the_request_are_linked(traced, spans, picture, encode):
    traced().post("/v1/classify", content=encode(picture(64, 64)))
    request, batch = spans.request(), spans.named("batch")
    inference = spans.below(request)["inference"]
    assert [link.context for link in batch.links] == [request.context]
    assert [link.context for link in inference.links] == [batch.context]


def test_times_are_those_of_the_stages(traced, spans, picture, encode):
    answer = traced().post("/v1/classify", content=encode(picture(64, 64))).json()
    request, batch = spans.request(), spans.named("batch")
    stages = spans.below(request)
    times = [request.start_time]
    for name in STAGES:
        times += [stages[name].start_time, stages[name].end_time]
    assert times == sorted(times)
    # The request's ends with its last byte, which the client may see a moment earlier.
    assert stages["postprocess"].end_time <= request.end_time
    inference = stages["inference"]
    assert (inference.start_time, inference.end_time) == (batch.start_time, batch.end_time)
    # Both are measured from just before the pass to its end.
    seconds = (batch.end_time - batch.start_time) / 1e9
    assert 0 < seconds <= answer["timing_ms"]["total"] / 1e3


def test_the_callers_trace_goes_on(traced, spans, picture, encode):
    traced().post("/v1/classify", content=encode(picture(64, 64)), headers=SAMPLED)
    request = spans.request()
    assert format_trace_id(request.context.trace_id) == TRACE
    assert format_span_id(request.parent.span_id) == PARENT
    assert request.parent.is_remote
    assert dict(request.context.trace_state) == {"a": "1"}
    assert {format_trace_id(one.context.trace_id) for one in spans.below(request).values()} == {
        TRACE
    }


def test_what_the_caller_does_not_sample_is_not_recorded(traced, spans, picture, encode):
    client = traced()
    good = encode(picture(64, 64))
    assert client.post("/v1/classify", content=good, headers=NOT_SAMPLED).status_code == 200
    client.get("/v1/models")
    spans.request("GET /v1/models")  # by then the first one would have been there too
    assert len(spans.all()) == 1


def test_a_traceparent_that_is_none(traced, spans):
    client = traced()
    for value in ("", "00-x", f"00-{TRACE}-{16 * '0'}-01", f"ff-{TRACE}-{PARENT}-01"):
        spans.clear()
        assert client.get("/v1/models", headers={"traceparent": value}).status_code == 200
        request = spans.request("GET /v1/models")
        assert request.parent is None
        assert format_trace_id(request.context.trace_id) != TRACE


def test_the_environments_sampler(monkeypatch, serve, picture, encode):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    spans = Spans()
    client, _ = serve(spans.tracing)
    client.post("/v1/classify", content=encode(picture(64, 64)))
    client.post("/v1/classify", content=encode(picture(64, 64)), headers=SAMPLED)
    assert format_trace_id(spans.request().context.trace_id) == TRACE
    assert len(spans.all()) == len(STAGES) + 2


def test_the_environment_may_disable_it(monkeypatch, serve, picture, encode):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    spans = Spans()
    client, _ = serve(spans.tracing)
    good = encode(picture(64, 64))
    for headers in ({}, SAMPLED):
        assert client.post("/v1/classify", content=good, headers=headers).status_code == 200
    assert not spans.all()


def test_what_machines_ask_all_the_time_is_not_traced(traced, spans):
    client = traced()
    for path in UNTRACED:
        assert client.get(path, headers=SAMPLED).status_code == 200
    client.get("/v1/models")
    spans.request("GET /v1/models")
    assert len(spans.all()) == 1


def test_names_have_the_route_and_no_more(traced, spans):
    client = traced()
    for method, path, name, status in (
        ("GET", "/v1/models", "GET /v1/models", 200),
        ("HEAD", "/v1/models", "HEAD /v1/models", 200),
        ("GET", "/v2/models/tiny", "GET /v2/models/{model}", 200),
        ("GET", "/nowhere/5", "GET", 404),
        ("PROPFIND", "/nowhere/5", "HTTP", 404),
    ):
        assert client.request(method, path).status_code == status
        assert spans.request(name).attributes["http.response.status_code"] == status


def test_every_dialect_has_the_stages(traced, spans, picture, encode):
    client, data = traced(), encode(picture(64, 64))
    for path, name, headers in (
        ("/models/tiny", "POST /models/{model}", {}),
        (
            "/v2/models/tiny/infer",
            "POST /v2/models/{model}/infer",
            {"Inference-Header-Content-Length": "0"},
        ),
    ):
        assert client.post(path, content=data, headers=headers).status_code == 200
        assert sorted(spans.below(spans.request(name))) == sorted(STAGES)


def test_behind_a_prefix(traced, spans):
    client = traced(root_path="/vision")
    client.get("/vision/v1/models")
    assert spans.request("GET /v1/models").attributes["url.path"] == "/vision/v1/models"
    client.get("/vision/metrics")
    client.get("/vision/v2")
    spans.request("GET /v2")
    assert len(spans.all()) == 2


def test_pipelined_requests_have_traces_of_their_own(traced, spans, connect):
    head = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
    sock = connect(traced(), head % b"/v1/models" + head % b"/healthz" + head % b"/v2")
    requests = [spans.request("GET /v1/models"), spans.request("GET /v2")]
    assert [request.parent for request in requests] == [None, None]
    assert len({request.context.trace_id for request in requests}) == len(spans.all()) == 2
    sock.close()


def test_nothing_of_it_is_global(traced, spans):
    before = trace.get_tracer_provider()
    traced().get("/v1/models")
    spans.request("GET /v1/models")
    assert trace.get_tracer_provider() is before
    assert type(before).__name__ == "ProxyTracerProvider"


def test_servers_do_not_share_spans(serve):
    first, second = Spans(), Spans()
    for spans in (first, second):
        serve(spans.tracing)[0].get("/v1/models")
        spans.request("GET /v1/models")
    assert len(first.all()) == len(second.all()) == 1
