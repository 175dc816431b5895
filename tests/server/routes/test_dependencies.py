"""Headers that say how urgent a request is."""

import json
import time
from types import SimpleNamespace

import pytest

from tests.server import raw
from vimserve.server.engine import urgency
from vimserve.server.errors import QueueFull
from vimserve.server.http import waiting
from vimserve.server.http.uploads import read_uploads

PRIORITY, TIMEOUT = "X-Request-Priority", "X-Request-Timeout-Ms"


@pytest.mark.parametrize(
    ("header", "value", "limit", "found"),
    [
        (PRIORITY, "0", 1, 0),
        (PRIORITY, "10", 9, 10),
        (PRIORITY, "-1", 1, -1),
        (PRIORITY, "high", "a whole number from 1 to 9", "high"),
        (PRIORITY, "", "a whole number from 1 to 9", ""),
        (PRIORITY, "5.0", "a whole number from 1 to 9", "5.0"),
        (TIMEOUT, "0", 1, 0),
        (TIMEOUT, "3600001", 3_600_000, 3_600_001),
        (TIMEOUT, "inf", "a whole number from 1 to 3600000", "inf"),
        (TIMEOUT, "1e3", "a whole number from 1 to 3600000", "1e3"),
        (TIMEOUT, "9" * 5000, "a whole number from 1 to 3600000", "9" * 5000),
    ],
)
def test_wrong_headers(client, picture, encode, header, value, limit, found):
    data = encode(picture(64, 64))
    answer = client.post("/v1/classify", content=data, headers={header: value})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:vimserve:problem:invalid-parameter"
    assert (problem["parameter"], problem["limit"], problem["value"]) == (header, limit, found)


@pytest.fixture
def planned(serve, monkeypatch, picture, encode):
    """``planned(**headers)``: the urgency of a request with these headers."""
    client, app = serve(request_timeout=700)
    pipeline = app.state.pipeline
    run, seen = pipeline.run, []

    def watch(model, plan, images, urgency, render, **options):
        seen.append(urgency)
        return run(model, plan, images, urgency, render, **options)

    monkeypatch.setattr(pipeline, "run", watch)

    def ask(headers):
        answer = client.post("/v1/classify", content=encode(picture(64, 64)), headers=headers)
        assert answer.status_code == 200, answer.text
        return seen[-1]

    return ask


def test_the_headers_reach_the_pipeline(planned):
    urgency = planned({PRIORITY: "1", TIMEOUT: "2500000"})
    assert (urgency.priority, urgency.timeout_s) == (1, 2500)
    assert urgency.deadline == urgency.arrived + 2500
    assert 0 < urgency.arrived <= time.monotonic()


def test_without_headers_the_server_decides(planned):
    urgency = planned({})
    assert (urgency.priority, urgency.timeout_s) == (5, 700)


def test_the_largest_values(planned):
    urgency = planned({PRIORITY: "9", TIMEOUT: "3600000"})
    assert (urgency.priority, urgency.timeout_s) == (9, 3600)


def test_the_request_s_own_time_runs_out(held, tiny, connect, picture, encode):
    data = encode(picture(64, 64))
    client, _, first, _ = held(data)
    start = time.monotonic()
    status, body = raw.answer(connect(client, raw.post(data, f"{TIMEOUT}: 400")))
    assert time.monotonic() - start >= 0.4
    problem = json.loads(body)
    assert (status, problem["limit"], problem["value"]) == (504, 0.4, 0.4)
    tiny.gate.set()
    assert first.result().status_code == 200
    assert client.post("/v1/classify", content=data).status_code == 200
    assert [batch.num_images for batch in tiny.batches] == [1, 1]


def test_upload_and_answer_share_one_time(held, tiny, monkeypatch, picture, encode):
    """The clock runs ahead while the body comes; what is left is all that the answer gets."""
    late_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s)
    monkeypatch.setattr(urgency, "time", clock)

    async def read_slowly(*args):
        nonlocal late_s
        images = await read_uploads(*args)
        late_s = 3599.9
        return images

    data = encode(picture(64, 64))
    client, _, first, _ = held(data)
    monkeypatch.setattr(waiting, "read_uploads", read_slowly)
    late = client.post("/v1/classify", content=data, headers={TIMEOUT: "3600000"})
    assert late.status_code == 504
    tiny.gate.set()
    assert first.result().status_code == 200


def test_an_error_says_itself_when_to_come_back(serve, monkeypatch, picture, encode):
    client, app = serve()

    def full(*_, **__):
        raise QueueFull("full", limit=1, value=2, retry_after_s=7)

    monkeypatch.setattr(app.state.engine, "submit", full)
    answer = client.post("/v1/classify", content=encode(picture(64, 64)))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["retry_after_s"] == 7
