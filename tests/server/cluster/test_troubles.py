"""What the router does when replicas are full, drain, hang or die, and when clients leave."""

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.server.cluster.conftest import hold
from tests.server.conftest import TinyModel
from vimserve.server.cluster.replica import WAITED


@pytest.fixture
def png(picture, encode):
    return encode(picture(48, 64))


def test_429_only_when_all_replicas_refuse(fleet, png):
    limits = {"max_queue_tokens": 1}
    models = [fleet.add(name, **limits) for name in ("a", "b")]
    client = fleet.client(**limits)
    for model in models:
        hold(model)
    with ThreadPoolExecutor(4) as pool:
        # One in each device, and one in each queue, which takes one of any size.
        waiting = []
        for number in range(1, 5):
            waiting.append(pool.submit(client.post, "/v1/classify", content=png))
            wait_until(partial(has_accepted, fleet, number))
        full = client.post("/v1/classify", content=png)
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        assert full.json()["type"] == "urn:vimserve:problem:queue-full"
        for model in models:
            model.gate.set()
        assert {one.result().status_code for one in waiting} == {200}
    text = client.get("/metrics").text
    assert 'choice="next"' in text


def has_accepted(fleet, number):
    """Whether so many images wait or run in any replica, and none waits where nothing runs."""
    engines = [one._engine for one in fleet.replicas.values()]
    works = [engine.work() for engine in engines]
    begun = all(
        [*engine._worker.in_hand] or not work.tokens
        for engine, work in zip(engines, works, strict=True)
    )
    return begun and sum(work.tokens for work in works) // 17 == number


def test_who_hangs_up_leaves_the_queue_of_the_replica(fleet, png, connect):
    model = fleet.add("a")
    client = fleet.client()
    hold(model)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(png)}\r\n\r\n".encode()
    running = connect(client, head + png)
    model.wait_for_batch()
    waiting = connect(client, head + png)
    wait_until(lambda: has_accepted(fleet, 2))
    waiting.close()
    wait_until(lambda: has_accepted(fleet, 1))
    model.gate.set()
    assert b"200 OK" in running.recv(100)


def test_who_hangs_up_in_the_middle_of_a_body(fleet, png, connect):
    fleet.add("a")
    client = fleet.client()
    head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    sending = connect(client, head + png)
    wait_until(lambda: fleet.replicas["a"]._tally.taken)
    sending.close()
    wait_until(lambda: 'reason="client-gone"' in client.get("/metrics").text)
    assert 'change="lost"' not in client.get("/metrics").text


def test_a_replica_that_cuts_a_connection_is_not_lost(fleet, png):
    """As it does after an answer in the middle of a body, of which the router may see nothing."""
    fleet.add("a")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet.pretend("b", "{}:{}".format(*listener.getsockname()))

        def cut():
            listener.accept()[0].close()
            listener.accept()[0].close()  # the router looks whether it is there

        threading.Thread(target=cut).start()
        client = fleet.client()
        fleet.app.state.directory.lost("a")
        assert client.post("/v1/classify", content=png).status_code == 503
        assert "b" in {one.replica for one in fleet.app.state.directory.ready}


def test_a_slow_body_is_refused_by_the_deadline(fleet, png, connect):
    fleet.add("a")
    client = fleet.client()
    head = (
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
        b"X-Request-Timeout-Ms: 200\r\n\r\n"
    )
    assert b"408 Request Timeout" in connect(client, head + png).recv(100)


def test_the_deadline_reaches_the_replica(fleet, png):
    model = fleet.add("a")
    client = fleet.client()
    hold(model)
    headers = {"X-Request-Timeout-Ms": "300"}
    answer = client.post("/v1/classify", content=png, headers=headers)
    assert answer.status_code == 504
    assert answer.json()["limit"] == 0.3


@contextmanager
def dying(answer: bytes = b"") -> Iterator[str]:
    """The address of a server that gets a request and dies."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()

        def die() -> None:
            with listener.accept()[0] as connection:
                connection.recv(10)
                listener.close()
                connection.sendall(answer)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        thread = threading.Thread(target=die)
        thread.start()
        yield f"{host}:{port}"
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_replica_that_dies_fails_its_own_requests_alone(fleet, png, answer):
    model = fleet.add("a")
    with dying(answer) as address:
        fleet.pretend("b", address)
        client = fleet.client()
        hold(model)
        with ThreadPoolExecutor(2) as pool:
            # While one is at the living replica, the other goes to the one that dies.
            first = pool.submit(client.post, "/v1/classify", content=png)
            wait_until(lambda: first.done() or model.entered.acquire(blocking=False))
            if not first.done():
                fleet.wait_for_work()
            second = pool.submit(client.post, "/v1/classify", content=png)
            wait_until(lambda: first.done() or second.done())
            model.gate.set()
            answers = [first.result(), second.result()]
    assert sorted(one.status_code for one in answers) == [200, 503]
    failed = max(answers, key=lambda one: one.status_code)
    assert failed.json()["type"] == "urn:vimserve:problem:replica-lost"
    assert failed.headers["retry-after"] == "1"
    assert client.post("/v1/classify", content=png).status_code == 200
    assert 'changes_total{change="lost",group="all"} 1.0' in client.get("/metrics").text


def test_a_replica_that_cannot_be_reached_is_passed_over(fleet, png):
    fleet.add("a")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
    fleet.pretend("b", address)
    client = fleet.client()
    answers = [client.post("/v1/classify", content=png).status_code for _ in range(4)]
    assert answers == [200] * 4


def test_time_at_the_router_counts(fleet, png):
    fleet.add("a")
    client = fleet.client()
    (one,) = fleet.registry.standings()
    headers = {"X-Request-Timeout-Ms": "60000", WAITED: "90000"}
    late = httpx2.post(f"http://{one.address}/v1/classify", content=png, headers=headers)
    assert late.status_code in (408, 504)
    # What a client says of it does not.
    assert client.post("/v1/classify", content=png, headers=headers).status_code == 200


def test_no_replica(fleet, png):
    client = fleet.client()
    assert client.get("/healthz").status_code == 200
    loading = client.get("/readyz")
    assert (loading.status_code, loading.json()["status"]) == (503, "loading")
    answer = client.post("/v1/classify", content=png)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the server is loading"
    assert client.get("/v1/models").status_code == 503


def test_draining_loses_nothing(fleet, png):
    models = {name: fleet.add(name) for name in ("a", "b")}
    client = fleet.client()
    for model in models.values():
        hold(model)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.post, "/v1/classify", content=png) for _ in range(2)]
        wait_until(lambda: has_accepted(fleet, 2))
        ending = pool.submit(fleet.stop, "a")
        fleet.wait_for({"b"})
        for model in models.values():
            model.gate.set()
        assert {one.result().status_code for one in waiting} == {200}
        ending.result()
    assert client.post("/v1/classify", content=png).status_code == 200


def test_a_router_that_stops_answers_what_it_has(fleet, png):
    model = fleet.add("a")
    client = fleet.client()
    hold(model)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/v1/classify", content=png)
        model.wait_for_batch()
        fleet.app.state.drain.begin()
        refused = client.post("/v1/classify", content=png)
        assert (refused.status_code, refused.json()["detail"]) == (503, "the server is stopping")
        assert client.get("/readyz").json()["status"] == "stopping"
        model.gate.set()
        assert waiting.result().status_code == 200


def test_a_hung_replica_is_given_up(fleet, png, monkeypatch):
    monkeypatch.setattr("vimserve.server.cluster.ingress.GRACE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet.pretend("a", "{}:{}".format(*listener.getsockname()))
        client = fleet.client()
        headers = {"X-Request-Timeout-Ms": "100"}
        answer = client.post("/v1/classify", content=png, headers=headers)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:vimserve:problem:replica-silent"


def test_new_weights_while_requests_wait(fleet, png):
    old = fleet.add("a")
    client = fleet.client()
    hold(old)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(client.post, "/v1/classify", content=png)
        old.wait_for_batch()
        anew = pool.submit(fleet.run, fleet.replicas["a"].serve(("tiny", "more")))
        wait_until(lambda: len(fleet.loaded) == 2)
        old.gate.set()
        assert waiting.result().status_code == 200
        anew.result()
    assert fleet.app.state.directory.ready
    wait_until(lambda: "more" in next(iter(fleet.app.state.directory.ready)).models)
    assert client.post("/v1/classify", content=png).json()["model"] == "tiny"


def weights(client):
    """The identities of what the replicas have, as the metrics show them."""
    found = re.findall(r"vimserve_cluster_model_info{(.*)} 1", client.get("/metrics").text)
    return {identity for labels in found for identity in re.findall(r'identity="(\w+)"', labels)}


def test_the_metrics_tell_which_replica_has_which_weights(fleet, monkeypatch):
    class Other(TinyModel):
        """Each has weights that no other has."""

        def __init__(self):
            super().__init__()
            self.head.bias.data += len(fleet.loaded)

    monkeypatch.setattr("tests.server.cluster.conftest.TinyModel", Other)
    fleet.add("a")
    client = fleet.client()
    (model,) = client.get("/v1/models").json()["models"]
    before = {model["identity"]}
    assert weights(client) == before
    fleet.add("b")
    fleet.wait_for({"a", "b"})
    wait_until(lambda: len(weights(client)) == 2)
    fleet.run(fleet.replicas["a"].serve(("tiny",)))
    wait_until(lambda: not before & weights(client))
