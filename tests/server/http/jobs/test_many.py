"""Many jobs, clients that leave, and the server's end: nothing is lost and nothing stays."""

import asyncio
import gc
import json
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.server import raw
from tests.server.http.jobs.posting import post, queued, status, until
from tests.server.telemetry.scraping import scrape
from vimserve.server.engine.cost import Load
from vimserve.server.http.jobs.job import Job

RESULT = "{}/result".format


@pytest.fixture
def data(picture, encode):
    return encode(picture(64, 64))


def assert_nothing_stays(app):
    """Neither jobs nor what they held, but for what the loop has not yet swept up."""
    store, backlog = app.state.jobs._store, app.state.engine._backlog
    assert (len(store), store.held_bytes, store.next_expiry) == (0, 0, None)
    wait_until(lambda: not app.state.drain._tasks)
    wait_until(lambda: backlog._load("tiny") == Load())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"max_jobs": 150}, "jobs-full"), ({"max_queue_tokens": 17 * 40}, "queue-full")],
)
def test_two_hundred_at_once(serve, tiny, data, settings, reason):
    client, app = serve(**settings)
    tiny.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: client.post("/v1/jobs", content=data), range(200))]
        refused = [answer.json() for answer in answers if answer.status_code == 429]
        urls = [answer.headers["Location"] for answer in answers if answer.status_code == 202]
        assert len(refused) + len({*urls}) == 200
        assert {problem["type"] for problem in refused} == {f"urn:vimserve:problem:{reason}"}
        assert len(urls) == 150 if reason == "jobs-full" else len(urls) >= 40
        seen = scrape(client)
        assert seen["jobs", "queued"] + seen["jobs", "running"] == len(urls)
        tiny.gate.set()
        for url in urls:
            until(client, url, "done")
        results = [answer.json()["results"] for answer in pool.map(client.get, map(RESULT, urls))]
        assert results == [client.post("/v1/classify", content=data).json()["results"]] * len(urls)
        assert {answer.status_code for answer in pool.map(client.delete, urls)} == {204}
    assert scrape(client)["jobs_finished_total", "done"] == len(urls)
    assert_nothing_stays(app)


def test_nothing_is_left_of_a_job(held, tiny, data):
    client, app, first, _ = held(data)
    kept = [post(client, data) for _ in range(3)]
    queued(client, 3)
    jobs = [weakref.ref(job) for job in app.state.jobs._store]
    assert all(isinstance(job(), Job) for job in jobs)
    client.delete(kept[0])
    tiny.gate.set()
    assert first.result().status_code == 200
    tiny.failures = []
    for url in kept[1:]:
        until(client, url, "done")
    for url in kept:
        assert client.delete(url).status_code == 204
    assert_nothing_stays(app)

    def collected():
        gc.collect()
        return not any(job() for job in jobs)

    wait_until(collected)


def test_only_the_answer_is_kept(held, tiny, monkeypatch, data):
    client, app, _, _ = held(data)
    run, uploads = app.state.pipeline.run, []

    def watch(model, plan, images, *args, **options):
        uploads.append(weakref.ref(images[0]))
        return run(model, plan, images, *args, **options)

    monkeypatch.setattr(app.state.pipeline, "run", watch)
    urls = [post(client, data) for _ in range(2)]
    queued(client, 2)
    assert all(upload() for upload in uploads)
    client.delete(urls[0])
    tiny.gate.set()
    until(client, urls[1], "done")

    def collected():
        gc.collect()
        return not any(upload() for upload in uploads)

    wait_until(collected)
    answer = client.get(f"{urls[1]}/result")
    assert app.state.jobs._store.held_bytes == len(answer.content)


def posted(data, *headers):
    return raw.post(data, *headers).replace(b"/v1/classify", b"/v1/jobs", 1)


def test_a_client_that_hangs_up_while_it_posts(serve, connect, data):
    client, app = serve()
    leaving = connect(client, posted(data)[:-100])
    wait_until(lambda: len(app.state.jobs._store) == 1)
    assert app.state.jobs._store.held_bytes == 0  # what has not come holds no room
    leaving.close()
    wait_until(lambda: scrape(client).get(("rejected_total", "client-gone")) == 1)
    assert_nothing_stays(app)


def test_a_client_that_stalls_while_it_posts(serve, connect, data):
    client, app = serve(request_timeout=0.2)
    code, _ = raw.answer(connect(client, posted(data)[:-100]))
    assert code == 408
    assert_nothing_stays(app)


def test_a_client_that_hangs_up_before_it_is_told(serve, connect, data, monkeypatch):
    """Its images are there, and their headers are being read."""
    client, app = serve()
    pipeline, waits = app.state.pipeline, asyncio.Event()
    measure = pipeline._measure

    async def slowly(*args):
        waits.set()
        await asyncio.sleep(PATIENCE_S)
        return await measure(*args)

    monkeypatch.setattr(pipeline, "_measure", slowly)
    leaving = connect(client, posted(data))
    wait_until(waits.is_set)
    leaving.close()
    wait_until(lambda: scrape(client).get(("rejected_total", "client-gone")) == 1)
    assert_nothing_stays(app)


def test_a_client_that_leaves_afterwards_finds_its_job_again(held, tiny, connect, data):
    client, _, first, _ = held(data)
    leaving = connect(client, posted(data))
    code, body = raw.answer(leaving)
    assert code == 202
    leaving.close()
    url = f"/v1/jobs/{json.loads(body)['id']}"
    tiny.gate.set()
    assert first.result().status_code == 200
    until(client, url, "done")


def test_a_restart_loses_jobs_and_says_so(serve, data):
    (before, _), (after, _) = serve(), serve()
    url = post(before, data)
    until(before, url, "done")
    for path in (url, f"{url}/result"):
        problem = after.get(path).json()
        assert problem["status"] == 404
        assert "jobs are lost when it restarts" in problem["detail"]


def test_who_has_no_key_has_no_job(serve, data):
    key = "correct-horse-battery"
    client, _ = serve(api_key=key)
    assert client.post("/v1/jobs", content=data).status_code == 401
    url = post(client, data, Authorization=f"Bearer {key}")
    assert client.get(url).status_code == client.delete(url).status_code == 401


def test_paths_are_those_that_clients_see(serve, data):
    client, _ = serve(root_path="/vision")
    url = post(client, data)
    assert url.startswith("/vision/v1/jobs/")
    until(client, url, "done")
    assert client.get(url).json()["result"] == f"{url}/result"
    assert client.get(f"{url}/result").status_code == 200


def stop(app):
    """A future of the drain's end."""
    drain, loop = app.state.drain, app.state.engine._loop
    ended = asyncio.run_coroutine_threadsafe(drain.finish(), loop)
    wait_until(lambda: drain.stopping)
    return ended


def test_a_server_that_stops_waits_for_jobs_and_for_who_asks_for_them(
    held, tiny, monkeypatch, data
):
    monkeypatch.setattr("vimserve.server.http.jobs.jobs.FETCH_S", PATIENCE_S)
    client, app, first, _ = held(data, drain_timeout=PATIENCE_S)
    early, late = post(client, data), post(client, data)
    queued(client, 2)
    ended = stop(app)
    refused = client.post("/v1/jobs", content=data)
    assert (refused.status_code, refused.json()["value"]) == (503, "stopping")
    assert status(client, early) == "queued"
    tiny.gate.set()
    assert first.result().status_code == 200
    for url in (early, late):
        until(client, url, "done")
        assert not ended.done()
        assert client.get(f"{url}/result").status_code == 200
    ended.result(PATIENCE_S)


def test_it_waits_but_a_moment_for_who_does_not_ask(held, tiny, monkeypatch, data):
    monkeypatch.setattr("vimserve.server.http.jobs.jobs.FETCH_S", 0.01)
    client, app, _, _ = held(data, drain_timeout=PATIENCE_S)
    url = post(client, data)
    queued(client, 1)
    ended = stop(app)
    tiny.gate.set()
    ended.result(PATIENCE_S)
    assert status(client, url) == "done"


def test_jobs_that_take_longer_than_the_drain_fail(held, tiny, data):
    client, app, _, _ = held(data, drain_timeout=0.2)
    url = post(client, data)
    queued(client, 1)
    start = time.monotonic()
    stop(app).result(PATIENCE_S)
    assert time.monotonic() - start >= 0.2
    error = client.get(url).json()["error"]
    assert (error["status"], error["value"]) == (503, "stopping")
    queued(client, 0)
    tiny.gate.set()


def test_a_deleted_job_holds_no_end_up(held, tiny, data):
    client, app, first, _ = held(data, drain_timeout=PATIENCE_S)
    url = post(client, data)
    queued(client, 1)
    ended = stop(app)
    client.delete(url)
    tiny.gate.set()
    assert first.result().status_code == 200
    ended.result(PATIENCE_S)
