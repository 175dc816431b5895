"""Traces on their way to a collector: a real one, a broken one, none."""

import logging
import re
import socket
import sys
from contextlib import contextmanager
from functools import partial

import httpx2
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.processes import in_a_process
from tests.server.live import live
from tests.server.telemetry.otel.collector import collecting
from tests.server.telemetry.otel.imports import HEAVY, heavy_imports
from vimserve import __version__
from vimserve.loadtests.common.server import serving as serving_process
from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig
from vimserve.server.telemetry.tracing import Tracing, tracing_of


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture
def serving(tiny, spec):
    """``with serving(url, **settings) as client``: a server that sends its traces there."""

    @contextmanager
    def start(url, **settings):
        config = ServerConfig(otlp_endpoint=url, **settings)
        with live(create_app(config, [spec])) as client:
            yield client

    return start


@pytest.fixture
def said(caplog):
    """What the server has logged of its traces."""
    caplog.set_level(logging.INFO, "vimserve.server.telemetry.otel.export")

    def messages():
        return [
            record.getMessage() for record in caplog.records
            if record.name == "vimserve.server.telemetry.otel.export"
        ]  # fmt: skip

    return messages


@pytest.fixture
def closed_port():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_spans_arrive(monkeypatch, collector, serving, picture, encode, compression):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    with serving(collector.url) as client:
        assert client.post("/v1/classify", content=encode(picture(64, 64))).status_code == 200
    # It has stopped, so all must be there.
    headers, _ = collector.requests[0]
    assert headers.get("Content-Encoding", "none") == compression
    assert headers["authorization"] == "Bearer abc"
    by_name = {span.name: span for _, span in collector.spans()}
    names = ["POST /v1/classify", "batch", "decode", "inference", "postprocess", "queue", "upload"]
    assert sorted(by_name) == names
    request, batch = by_name["POST /v1/classify"], by_name["batch"]
    assert [link.span_id for link in batch.links] == [request.span_id]
    assert [link.span_id for link in by_name["inference"].links] == [batch.span_id]
    assert by_name["queue"].parent_span_id == request.span_id
    assert by_name["inference"].end_time_unix_nano == batch.end_time_unix_nano


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_the_path_may_be_given_or_not(collector, serving, path):
    with serving(collector.url + path) as client:
        client.get("/v1/models")
    assert [span.name for _, span in collector.spans()] == ["GET /v1/models"]


def test_the_resource(collector, serving):
    with serving(collector.url) as client:
        client.get("/v1/models")
    ((resource, _),) = collector.spans()
    assert resource["service.name"] == "vimserve"
    assert resource["service.version"] == __version__


def test_the_resource_of_the_environment(monkeypatch, collector, serving):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "eyes")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,deployment.environment=lab")
    with serving(collector.url) as client:
        client.get("/v1/models")
    ((resource, _),) = collector.spans()
    expected = {"service.name": "eyes", "service.version": "7", "deployment.environment": "lab"}
    assert expected.items() <= resource.items()


def test_a_collector_that_refuses_is_named_once(monkeypatch, collector, serving, said):
    def grown(before):
        return len(collector.requests) > before

    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    collector.status = 404
    with serving(collector.url) as client:
        for _ in range(4):
            before = len(collector.requests)
            assert client.get("/v1/models").status_code == 200
            wait_until(partial(grown, before))
        address = f"{collector.url}/v1/traces"
        (warning,) = [line for line in said() if "do not reach" in line]
        assert warning.startswith(f"traces do not reach {address}: ")
        assert "404" in warning
        collector.status = 200
        client.get("/v1/models")
        wait_until(lambda: f"traces reach {address} again" in said())
        collector.status = 400
        client.get("/v1/models")
        wait_until(lambda: len([line for line in said() if "do not reach" in line]) == 2)
    assert f"traces go to {address}" in said()


def test_a_server_without_its_collector_says_so_once(monkeypatch, closed_port, picture, encode):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.01")  # it tries once
    data = encode(picture(64, 64))
    with serving_process(["--model", "demo", "--otlp-endpoint", closed_port]) as server:

        def ask():
            for _ in range(3):
                answer = httpx2.post(f"{server.url}/v1/classify", content=data, timeout=PATIENCE_S)
                assert answer.status_code == 200

        ask()
        wait_until(lambda: "traces do not reach" in server.log)
        ask()
        assert server.stop() == 0
        log = server.log
    # Nothing but this line, and in our form.
    assert len(re.findall(r"(?m)^.* WARNING .*do not reach .*Failed to export", log)) == 1
    assert log.count("export") == 1
    assert len(re.findall(r"(?m)^.* ms demo trace_id=\w{32} span_id=\w{16}$", log)) == 6


def test_a_queue_that_is_full_is_named_once(monkeypatch, collector, serving, said):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    collector.gate.clear()
    with serving(collector.url) as client:
        client.get("/v1/models")
        wait_until(lambda: collector.requests)  # which holds the exporter
        for _ in range(4):
            client.get("/v1/models")
        wait_until(lambda: [line for line in said() if "Queue full" in line])
        collector.gate.set()
    assert [line for line in said() if "Queue full" in line] == [
        "OpenTelemetry: Queue full, dropping Span."
    ]


def test_a_collector_that_hangs_does_not_hold_the_server_up(monkeypatch, collector, serving, said):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(PATIENCE_S))
    collector.gate.clear()
    with serving(collector.url, drain_timeout=0.2) as client:
        assert client.get("/v1/models").status_code == 200
    assert any(line.startswith("the last traces were not sent within 0.") for line in said())


def test_a_collector_that_is_not_there_is_not_waited_for(monkeypatch, closed_port, serving, said):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.01")
    with serving(closed_port) as client:
        client.get("/v1/models")
        wait_until(lambda: any("do not reach" in line for line in said()))
        # From now on an attempt would take longer than anyone waits.
        monkeypatch.setattr(
            "vimserve.server.telemetry.otel.export.Reported.export",
            lambda *_: wait_until(lambda: False),
        )
        client.get("/v1/models")
    assert "the last traces were not sent within 0.0 s" in said()


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.delitem(sys.modules, "vimserve.server.telemetry.otel.export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ValueError, match=r"^--otlp-endpoint needs the extra otel: [^\n]+$"):
        tracing_of(ServerConfig(otlp_endpoint="http://127.0.0.1:4318"))


def test_it_is_off_by_default():
    assert type(tracing_of(ServerConfig())) is Tracing


def test_off_it_is_not_even_imported():
    """FastAPI itself imports the API, which does nothing."""
    assert in_a_process(heavy_imports, None) == []
    assert in_a_process(heavy_imports, "http://127.0.0.1:4318") == list(HEAVY)
