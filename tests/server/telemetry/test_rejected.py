"""Every reason to refuse, provoked and counted."""

import pytest

from tests.patience import wait_until
from tests.server import raw
from tests.server.telemetry.scraping import scrape
from vimserve.server.cluster.errors import ReplicaLost, ReplicaSilent
from vimserve.server.engine.cost import CostModel
from vimserve.server.errors import ModelFailure, QueueFull, ServerError


def reasons(error=ServerError):
    """The slugs of all errors that can be raised."""
    below = error.__subclasses__()
    return {error.slug} if not below else set().union(*map(reasons, below))


@pytest.fixture
def refusals(serve, held, tiny, connect, monkeypatch, picture, encode):
    """``refusals[reason](reason)``: a client of a server that has refused for that reason."""
    good = encode(picture(64, 64))

    def post(query="", path="/v1/classify", **request):
        settings = request.pop("settings", {})

        def ask():
            client, _ = serve(**settings)
            client.post(f"{path}{query}", **(request or {"content": good}))
            return client

        return ask

    def stalled():
        client, _ = serve(request_timeout=0.2)
        assert raw.answer(connect(client, raw.post(good)[:-100]))[0] == 408
        return client

    def full():
        client, _, _, pool = held(good, max_queue_tokens=20)
        answers = [pool.submit(client.post, "/v1/classify", content=good) for _ in range(3)]
        wait_until(lambda: any(answer.done() for answer in answers))
        return client

    def overdue():
        client, app, _, pool = held(good)
        app.state.engine._backlog._costs["tiny"] = CostModel(launch=10_000)
        pool.submit(client.post, "/v1/classify", content=good)
        wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 1)
        client.post("/v1/classify", content=good, headers={"X-Request-Priority": "9"})
        return client

    def late():
        client, _, _, _ = held(good, request_timeout=0.3)
        assert raw.answer(connect(client, raw.post(good)))[0] == 504
        return client

    def left():
        client, _, _, _ = held(good)
        leaving = connect(client, raw.post(good))
        wait_until(lambda: scrape(client)["queue_depth", "tiny"] == 1)
        leaving.close()
        return client

    def stopping():
        client, app = serve()
        app.state.drain.begin()
        client.post("/v1/classify", content=good)
        return client

    def failing():
        client, _ = serve()
        tiny.failures = [RuntimeError("boom")]
        client.post("/v1/classify", content=good)
        return client

    def crowded():
        client, _ = serve()
        tiny.failures = [MemoryError()]
        client.post("/v1/classify", content=good)
        return client

    def unavailable():
        client, app = serve()
        app.state.engine.models["tiny"].loaded = None
        client.post("/v1/classify", content=good)
        return client

    def unforeseen():
        client, _ = serve()
        monkeypatch.setattr("vimserve.server.routes.native.classify.best", lambda *_: 1 / 0)
        client.post("/v1/classify", content=good)
        return client

    def locked():
        client, _ = serve(api_key="correct-horse-battery", public_metrics=True)
        client.post("/v1/classify", content=good)
        return client

    def job(then):
        def ask():
            client, _, _, _ = held(good, max_jobs=1)
            then(client, client.post("/v1/jobs", content=good).headers["Location"])
            return client

        return ask

    def cancel(client, url):
        client.delete(url)
        client.get(f"{url}/result")

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    return {
        "invalid-parameter": post("?top_k=0"),
        "unknown-model": post("?model=x"),
        "unauthorized": locked,
        "wrong-task": post(path="/v1/segment"),
        "malformed-request": post(path="/models/tiny", content=b"{"),
        "unknown-version": post(path="/v2/models/tiny/versions/2/infer"),
        "forbidden": post(path="/v2/repository/models/tiny/load"),
        "empty-body": post(content=b""),
        "missing-file": post(files={"image": ("a.png", b"x")}),
        "malformed-multipart": post(content=b"x", headers=form),
        "malformed-encoding": post(content=good, headers={"Content-Encoding": "gzip"}),
        "unsupported-encoding": post(content=good, headers={"Content-Encoding": "br"}),
        "unsupported-image": post(content=b"bad"),
        "corrupt-image": post(content=good[:-500]),
        "body-too-large": post(settings={"max_body_bytes": 10}),
        "image-too-large": post(settings={"max_pixels": 10}),
        "image-too-complex": post(content=good[:33] + good[8:33] * 5000 + good[33:]),
        "too-many-images": post(
            settings={"max_images": 1}, files=[("file", ("a", good)), ("file", ("b", good))]
        ),
        "too-many-parts": post(content=200 * b"--x\r\n\r\n\r\n", headers=form),
        "upload-timeout": stalled,
        "queue-full": full,
        "too-late": overdue,
        "request-timeout": late,
        "client-gone": left,
        "not-ready": stopping,
        "model-failure": failing,
        "internal-error": unforeseen,
        "out-of-memory": crowded,
        "model-unavailable": unavailable,
        "unknown-job": job(lambda client, url: client.get(f"{url}0")),
        "job-not-finished": job(lambda client, url: client.get(f"{url}/result")),
        "job-cancelled": job(cancel),
        "jobs-full": job(lambda client, url: client.post("/v1/jobs", content=good)),
    }


OF_ROUTERS = {ReplicaLost.slug, ReplicaSilent.slug}
REASONS = sorted(reasons() - OF_ROUTERS | {"client-gone", "internal-error"})


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_to_refuse_is_counted(refusals, reason, tiny):
    client = refusals[reason]()
    wait_until(lambda: scrape(client).get(("rejected_total", reason), 0) >= 1)
    counted = {key[1] for key in scrape(client) if key[0] == "rejected_total"}
    assert counted == {reason}
    tiny.gate.set()


def test_the_errors_own_reasons_are_told_apart():
    assert {QueueFull.slug, ModelFailure.slug} <= set(REASONS)
    assert len(REASONS) == 33
