"""Every answer and every line of the log says which request it belongs to."""

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.server import raw
from vimserve.server.telemetry import request_id
from vimserve.server.telemetry.request_id import RequestIdFilter

MADE = re.compile(r"[0-9a-f]{32}")


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records(client, monkeypatch):
    """What servers log from now on, as their handler sees it."""
    handler = Kept()
    handler.addFilter(RequestIdFilter())
    loggers = [logging.getLogger(name) for name in ("vimserve", "uvicorn")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", [handler])
        logger.setLevel(logging.INFO)
    # The module's server may still have to log what was answered before.
    client.post("/last", headers={"X-Request-Id": "last"})
    wait_until(lambda: "last" in ids(list(handler.records)))
    handler.records.clear()
    yield handler.records
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def ids(records):
    return {getattr(record, "request_id", None) for record in records}


@pytest.mark.parametrize("name", ["a", "0b0f5d9c-1c2f", '"]{}%0A\\', "x" * 128])
def test_a_sane_name_is_kept(client, name):
    answer = client.get("/healthz", headers={"X-Request-Id": name})
    assert answer.headers["x-request-id"] == name


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "x" * 129, "ü".encode(), b"\xff", b"\x80"])
def test_any_other_name_is_replaced(client, name):
    answer = client.get("/healthz", headers={"X-Request-Id": name})
    assert MADE.fullmatch(answer.headers["x-request-id"])


def test_without_a_name_every_request_gets_its_own(client):
    names = {client.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(names) == 3
    assert all(MADE.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/docs", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/classify", 405),
        ("POST", "/v1/classify", 422),
        ("POST", "/v1/classify?top_k=x", 422),
        ("POST", "/v1/classify?model=x", 404),
        ("HEAD", "/healthz", 200),
        ("HEAD", "/v1/classify", 405),
    ],
)
def test_every_answer_has_it(client, method, path, status):
    answer = client.request(method, path, headers={"X-Request-Id": "mine"})
    assert answer.status_code == status
    assert answer.headers["x-request-id"] == "mine"
    if status >= 400 and method != "HEAD":
        assert answer.json()["request_id"] == "mine"


def test_an_answer_with_predictions_has_it(client, picture, encode, records):
    data = encode(picture(64, 64))
    answer = client.post("/v1/classify", content=data, headers={"X-Request-Id": "mine"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine"
    wait_until(lambda: records)
    assert ids(records) == {"mine"}


def test_an_unforeseen_error_has_it_and_so_has_its_log(
    serve, monkeypatch, picture, encode, records
):
    client, _ = serve()
    records.clear()
    monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
    answer = client.post(
        "/v1/classify", content=encode(picture(64, 64)), headers={"X-Request-Id": "mine"}
    )
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
    wait_until(lambda: len(records) == 2)
    (failure,) = [record for record in records if record.exc_info]
    assert failure.request_id == "mine"
    (line,) = [record for record in records if record.name == "vimserve.server.telemetry.observe"]
    assert (line.request_id, line.status) == ("mine", 500)


def test_a_client_that_left_has_it_in_the_log(held, tiny, connect, picture, encode, records):
    data = encode(picture(64, 64))
    client, app, first, _ = held(data)
    waiting = app.state.metrics.registry
    leaving = connect(client, raw.post(data, "X-Request-Id: mine"))
    wait_until(lambda: waiting.get_sample_value("vimserve_queue_depth", {"model": "tiny"}) == 1)
    leaving.close()
    wait_until(lambda: any(getattr(record, "status", 0) == 499 for record in list(records)))
    (line,) = [record for record in records if getattr(record, "status", 0) == 499]
    assert line.request_id == "mine"
    tiny.gate.set()
    assert first.result().status_code == 200


def test_requests_at_once_keep_their_names_apart(client, picture, encode, records):
    data = encode(picture(64, 64))

    def ask(name):
        with httpx2.Client(base_url=client.base_url, timeout=PATIENCE_S) as own:
            sent = {"X-Request-Id": name}
            return [own.post("/v1/classify?top_k=0", content=data, headers=sent) for _ in range(3)]

    with ThreadPoolExecutor() as pool:
        for name, answers in zip("abcd", pool.map(ask, "abcd"), strict=True):
            for answer in answers:
                assert answer.headers["x-request-id"] == answer.json()["request_id"] == name
    wait_until(lambda: len(records) == 12)
    lines = [
        record.request_id
        for record in records
        if record.name == "vimserve.server.telemetry.observe"
    ]
    assert sorted(lines) == sorted("abcd" * 3)


def test_what_is_no_http_is_a_problem_with_a_name(client, connect):
    answer = raw.read(connect(client, b"\x16\x03\x01\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    (name,) = re.findall(rb"x-request-id: ([0-9a-f]{32})", head)
    assert b'"request_id":"' + name in body


def test_a_record_may_name_its_request_itself():
    record = logging.makeLogRecord({"request_id": "a"})
    RequestIdFilter().filter(record)
    assert ids([record]) == {"a"}


def test_a_record_outside_of_any_request_has_no_name():
    record = logging.makeLogRecord({})
    RequestIdFilter().filter(record)
    assert not hasattr(record, "request_id")


def test_threads_inherit_the_name():
    async def run():
        request_id.current.set("a")
        record = logging.makeLogRecord({})
        await asyncio.to_thread(RequestIdFilter().filter, record)
        return record

    assert ids([asyncio.run(run())]) == {"a"}
