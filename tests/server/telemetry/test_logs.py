"""The log as people read it, and as machines do."""

import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.patience import wait_until
from vimserve.server.telemetry.logs import formatter
from vimserve.server.telemetry.request_id import RequestIdFilter


def formatted(style, **members):
    record = logging.makeLogRecord({"levelname": "INFO", "name": "vimserve.server.x", **members})
    return formatter(style).format(record)


def test_an_object_of_json():
    before = datetime.now(UTC)
    line = formatted("json", msg="read %d of\n%s", args=(3, "é"), request_id="a")
    entry = json.loads(line)
    assert "\n" not in line
    time = datetime.fromisoformat(entry.pop("time"))
    assert before <= time <= datetime.now(UTC)
    assert time.utcoffset() == timedelta(0)
    assert entry == {
        "level": "INFO",
        "logger": "vimserve.server.x",
        "message": "read 3 of\né",
        "request_id": "a",
    }


def test_an_exception_is_a_string():
    try:
        raise ValueError("boom")
    except ValueError:
        line = formatted("json", msg="failed", exc_info=sys.exc_info())
    exception = json.loads(line)["exception"]
    assert exception.startswith("Traceback")
    assert exception.endswith("ValueError: boom")


def test_a_line_of_text():
    assert formatted("text", msg="hello", request_id="a").endswith(" INFO [a] hello")
    assert formatted("text", msg="hello").endswith(" INFO [-] hello")


@pytest.fixture
def logged(client, caplog):
    """``logged(method, path, **request)``: what the log says of a request, which is called a."""

    def ask(method, path, **request):
        def lines():
            return [r for r in caplog.records if getattr(r, "request_id", None) == "a"]

        client.request(method, path, headers={"X-Request-Id": "a"}, **request)
        wait_until(lines)
        return lines()[-1]

    caplog.set_level(logging.INFO, "vimserve.server.telemetry.observe")
    caplog.handler.addFilter(RequestIdFilter())
    return ask


def test_the_line_of_a_request(logged, picture, encode):
    record = logged("POST", "/v1/classify?top_k=1", content=encode(picture(64, 64)))
    entry = json.loads(formatter("json").format(record))
    assert entry["duration_ms"] > 0
    assert entry["message"].startswith("POST /v1/classify 200 ")
    assert entry["message"].endswith(" ms tiny")
    expected = {
        "level": "INFO",
        "logger": "vimserve.server.telemetry.observe",
        "request_id": "a",
        "method": "POST",
        "path": "/v1/classify",
        "status": 200,
        "model": "tiny",
    }
    assert expected.items() <= entry.items()
    assert set(entry) == {*expected, "time", "message", "duration_ms"}


def test_a_path_cannot_forge_lines(logged):
    record = logged("POST", "/a%0A2026-01-01%20INFO%20[b]%20all%20is%20well%1b[2J")
    line = formatter("text").format(record)
    assert line.isprintable()
    assert "/a%0A2026-01-01%20INFO%20%5Bb%5D" in line
