"""Jobs while the device is held up: progress, cancellation, bounds, expiry and the server's end."""

import logging
import threading

import pytest
from PIL import Image

from tests.patience import PATIENCE_S, wait_until
from tests.server.http.jobs.posting import post, queued, state, status, until, until_answered
from tests.server.telemetry.scraping import scrape
from vimserve.server.engine.cost import CostModel

TIMEOUT, PRIORITY = "X-Request-Timeout-Ms", "X-Request-Priority"


@pytest.fixture
def data(picture, encode):
    return encode(picture(64, 64))


def test_a_job_waits_runs_and_is_done(held, tiny, data):
    client, _, first, _ = held(data, max_batch_tokens=17, max_resolution=64)
    steps = threading.Semaphore(0)
    tiny.check = lambda batch: steps.acquire(timeout=PATIENCE_S)
    files = 3 * [("file", ("a.png", data))]
    posted = client.post("/v1/jobs", files=files)
    url = posted.headers["Location"]
    queued(client, 3)
    seen = state(client, url)
    assert seen["id"] == posted.json()["id"]
    assert (seen["task"], seen["model"], seen["status"]) == ("classify", "tiny", "queued")
    assert (seen["position"], seen["progress"]) == (0, {"done": 0, "total": 3})
    assert seen["created_at"] == posted.json()["created_at"]
    assert (seen["expires_at"], seen["error"], seen["result"]) == (None, None, None)
    early = client.get(f"{url}/result")
    assert early.status_code == 409
    assert early.headers["Retry-After"] == "1"
    assert early.json()["value"] == "queued"

    tiny.gate.set()
    for done in range(3):
        steps.release()  # the held request, then all images but the last
        until_answered(client, url, done)
        if done:
            assert status(client, url) == "running"
            assert state(client, url)["position"] is None
            assert client.get(f"{url}/result").json()["value"] == "running"
    assert first.result().status_code == 200
    steps.release()
    until(client, url, "done")
    seen = state(client, url)
    assert seen["result"] == f"{url}/result"
    assert seen["progress"] == {"done": 3, "total": 3}
    assert seen["expires_at"] > seen["created_at"]
    assert len(client.get(seen["result"]).json()["results"]) == 3
    assert scrape(client)["jobs_finished_total", "done"] == 1


def test_priorities_decide_who_is_before_a_job(held, tiny, data):
    client, _, first, pool = held(data)
    last = post(client, data, **{PRIORITY: "9"})
    middle = post(client, data)
    queued(client, 2)
    request = pool.submit(client.post, "/v1/classify", content=data, headers={PRIORITY: "1"})
    queued(client, 3)
    assert [state(client, url)["position"] for url in (last, middle)] == [2, 1]
    tiny.gate.set()
    assert first.result().status_code == request.result().status_code == 200
    for url in (last, middle):
        until(client, url, "done")


def test_a_job_that_waits_is_cancelled_before_the_device(held, tiny, data):
    client, app, first, _ = held(data)
    url = post(client, data)
    queued(client, 1)
    assert client.delete(url).status_code == 204
    queued(client, 0)
    seen = state(client, url)
    assert (seen["status"], seen["result"], seen["error"]) == ("cancelled", None, None)
    assert seen["progress"] == {"done": 0, "total": 1}
    gone = client.get(f"{url}/result")
    assert (gone.status_code, gone.json()["value"]) == (410, "cancelled")
    tiny.gate.set()
    assert first.result().status_code == 200
    assert client.post("/v1/classify", content=data).status_code == 200
    assert [batch.num_images for batch in tiny.batches] == [1, 1]
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == client.delete(url).status_code == 404
    assert scrape(client)["jobs_finished_total", "cancelled"] == 1
    assert app.state.jobs._store.held_bytes == 0


def test_a_job_that_runs_is_dropped(serve, tiny, data):
    client, _ = serve()
    while tiny.entered.acquire(blocking=False):
        pass
    tiny.gate.clear()
    url = post(client, data)
    tiny.wait_for_batch()
    assert status(client, url) == "running"
    assert client.delete(url).status_code == 204
    assert status(client, url) == "cancelled"
    tiny.gate.set()
    assert client.post("/v1/classify", content=data).status_code == 200
    assert status(client, url) == "cancelled"


def test_a_result_is_forgotten_early(serve, data):
    client, app = serve()
    url = post(client, data)
    until(client, url, "done")
    assert app.state.jobs._store.held_bytes == len(client.get(f"{url}/result").content)
    assert client.delete(url).status_code == 204
    assert "was deleted" in client.get(f"{url}/result").json()["detail"]
    assert app.state.jobs._store.held_bytes == len(app.state.jobs._store) == 0


def test_a_job_expires(serve, data):
    client, app = serve(job_retention=600)
    app.state.jobs._clock = lambda: 1000
    url = post(client, data)
    until(client, url, "done")
    app.state.jobs._clock = lambda: 1599
    assert client.get(f"{url}/result").status_code == 200
    app.state.jobs._clock = lambda: 1600
    problem = client.get(url).json()
    assert problem["status"] == 404
    assert "has expired" in problem["detail"]
    assert "600 s" in problem["detail"]


def test_a_job_expires_if_nobody_asks(serve, data):
    client, _ = serve(job_retention=0.01)
    for _ in range(2):
        post(client, data)
    wait_until(lambda: scrape(client).get(("jobs_finished_total", "done")) == 2)
    wait_until(lambda: scrape(client)["jobs", "done"] == 0)


def test_too_many_jobs(held, tiny, data):
    client, _, first, _ = held(data, max_jobs=2)
    urls = [post(client, data) for _ in range(2)]
    refused = client.post("/v1/jobs", content=data)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:vimserve:problem:jobs-full"
    assert (refused.json()["limit"], refused.json()["value"]) == (2, 3)
    assert refused.headers["Retry-After"] == "1"
    assert scrape(client)["jobs", "queued"] == 2
    client.delete(urls[0])  # which makes room, and is forgotten when the room is needed
    assert status(client, urls[0]) == "cancelled"
    urls.append(post(client, data))
    assert client.get(urls[0]).status_code == 404
    tiny.gate.set()
    for url in urls[1:]:
        until(client, url, "done")
    refused = client.post("/v1/jobs", content=data)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert first.result().status_code == 200


def test_too_many_bytes(held, tiny, data):
    client, app, _, _ = held(data, max_job_bytes=2 * len(data))
    post(client, data)
    second = post(client, data)
    assert app.state.jobs._store.held_bytes == 2 * len(data)

    def chunks():
        yield data

    for body in (data, chunks()):  # known from the head, and only once it is there
        refused = client.post("/v1/jobs", content=body)
        assert refused.status_code == 429
        assert refused.json()["limit"] == 2 * len(data)
    large = client.post("/v1/jobs", content=bytes(2 * len(data) + 1))
    assert (large.status_code, large.json()["limit"]) == (413, 2 * len(data))
    client.delete(second)
    assert app.state.jobs._store.held_bytes == len(data)
    post(client, data)
    tiny.gate.set()


@pytest.mark.parametrize(("most", "statuses"), [(1000, [200, 429]), (300, [413, 413])])
def test_a_result_for_which_there_is_no_room(held, tiny, data, encode, most, statuses):
    """Its upload goes, and is smaller than the result; two results are more than 1000 bytes."""
    small = encode(Image.new("RGB", (64, 64)))
    client, app, _, _ = held(data, max_job_bytes=most)
    urls = [post(client, small) for _ in statuses]
    queued(client, 2)
    tiny.gate.set()
    for url in urls:
        until(client, url, "done", "failed")
    answers = [client.get(f"{url}/result") for url in urls]
    assert [answer.status_code for answer in answers] == statuses
    assert answers[1].json() == state(client, urls[1])["error"]
    kept = [answer for answer in answers if answer.status_code == 200]
    assert app.state.jobs._store.held_bytes == sum(len(answer.content) for answer in kept)


def test_a_failure_is_kept_with_its_status(serve, tiny, data):
    client, _ = serve()
    tiny.failures = [RuntimeError("boom")]
    url = post(client, data, **{"X-Request-Id": "mine"})
    until(client, url, "failed")
    error = state(client, url)["error"]
    assert error["type"] == "urn:vimserve:problem:model-failure"
    assert error["request_id"] == "mine"
    fetched = client.get(f"{url}/result")
    assert (fetched.status_code, fetched.json()) == (500, error)
    seen = scrape(client)
    assert (seen["jobs", "failed"], seen["jobs_finished_total", "failed"]) == (1, 1)
    assert seen["rejected_total", "model-failure"] == 1


def test_what_nobody_foresaw_fails_the_job_and_is_logged(serve, monkeypatch, data, caplog):
    monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
    client, _ = serve()
    url = post(client, data)
    until(client, url, "failed")
    assert client.get(f"{url}/result").status_code == 500
    assert state(client, url)["error"]["detail"] == "the server failed; its log says why"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert scrape(client)["rejected_total", "internal-error"] == 1


def test_the_log_names_the_request(serve, data, caplog):
    caplog.set_level(logging.INFO, "vimserve")
    client, _ = serve()
    url = post(client, data, **{"X-Request-Id": "mine"})
    until(client, url, "done")
    (record,) = [r for r in caplog.records if getattr(r, "outcome", None)]
    assert (record.getMessage(), vars(record)["request_id"]) == ("job done tiny", "mine")


def test_a_full_queue_refuses_a_job(held, tiny, data):
    client, app, _, _ = held(data, max_queue_tokens=20)
    post(client, data)
    refused = client.post("/v1/jobs", content=data)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:vimserve:problem:queue-full"
    assert int(refused.headers["Retry-After"]) >= 1
    assert len(app.state.jobs._store) == 1
    tiny.gate.set()


def test_a_job_that_would_come_too_late_is_refused(held, tiny, data):
    client, app, _, _ = held(data, job_timeout=600)
    app.state.engine._backlog._costs["tiny"] = CostModel(launch=300)
    post(client, data)
    queued(client, 1)
    behind = {PRIORITY: "9"}
    for timeout in ({TIMEOUT: "60000"}, {}):  # 600 s are not enough for it and two before it
        refused = client.post("/v1/jobs", content=data, headers=behind | timeout)
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:vimserve:problem:too-late"
    post(client, data, **behind, **{TIMEOUT: "3600000"})
    tiny.gate.set()
