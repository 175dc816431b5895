"""Clients that never finish lose their connection, and nobody else does.

The timers of the connections go by a clock of the test's own.
"""

import socket
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import httpx2
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.server import raw
from vimserve.server.http.server import Protocol

TIMEOUT_S = 1.0
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Timer:
    due: float
    callback: object

    def cancel(self):
        self.callback = None


class Clock:
    """Time that passes when a test says so.

    Attributes:
        connections: all that were made, by the address of the client.
    """

    def __init__(self):
        self.now = 0.0
        self.timers = []
        self.connections = {}

    def watch(self, protocol):
        self.loop = protocol.loop
        protocol.loop = Loop(self.loop, self)
        protocol.received = 0
        self.connections[protocol.transport.get_extra_info("peername")] = protocol

    def advance(self, seconds):
        """Returns when everything has happened that was due."""
        passed: Future[None] = Future()
        self.loop.call_soon_threadsafe(self._fire, seconds, passed)
        passed.result(PATIENCE_S)

    def _fire(self, seconds, passed):
        self.now += seconds
        due = [timer for timer in self.timers if timer.due <= self.now]
        self.timers = [timer for timer in self.timers if timer.due > self.now]
        for timer in due:
            if timer.callback is not None:
                timer.callback()
        passed.set_result(None)


class Loop:
    """A connection's event loop, but for the clock."""

    def __init__(self, loop, clock):
        self._loop = loop
        self._clock = clock

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, delay, callback, *args):
        timer = Timer(self._clock.now + delay, partial(callback, *args))
        self._clock.timers.append(timer)
        return timer


@pytest.fixture(scope="module")
def clock():
    clock = Clock()
    made, received = Protocol.connection_made, Protocol.data_received

    def connection_made(self, transport):
        self.transport = transport
        clock.watch(self)
        made(self, transport)

    def data_received(self, data):
        received(self, data)
        self.received += len(data)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Protocol, "connection_made", connection_made)
        monkeypatch.setattr(Protocol, "data_received", data_received)
        monkeypatch.setattr("vimserve.server.http.server.CLIENT_TIMEOUT_S", TIMEOUT_S)
        yield clock


@pytest.fixture(scope="module")
def url(clock, client):
    """Of a server whose connections go by the clock."""
    return str(client.base_url)


class Peer:
    """A client's socket, and the connection that the server has made of it."""

    def __init__(self, sock, clock):
        self.sock = sock
        # An earlier client, whose connection is closed, may have had the same port.
        wait_until(lambda: self._accepted(clock))
        self.connection = clock.connections[sock.getsockname()]

    def _accepted(self, clock):
        connection = clock.connections.get(self.sock.getsockname())
        return connection is not None and not connection.transport.is_closing()

    @property
    def connected(self):
        return not self.connection.transport.is_closing()

    def send(self, data):
        """Returns when the server has read it."""
        expected = self.connection.received + len(data)
        self.sock.sendall(data)
        wait_until(lambda: self.connection.received >= expected)

    def read(self):
        return raw.read(self.sock)


@pytest.fixture
def peer(clock, url):
    """``peer(data)``: one that has sent ``data``; with small buffers, hardly any is on its way."""
    with ExitStack() as stack:

        def make(data=b"", *, small_buffers=False):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(PATIENCE_S)
            if small_buffers:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((httpx2.URL(url).host, httpx2.URL(url).port))
            one = Peer(sock, clock)
            if small_buffers:
                served = one.connection.transport.get_extra_info("socket")
                served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            if data:
                one.send(data)
            return one

        yield make


def trickle(peer, clock):
    """Send a byte now and then for a little less than the server bears, then for longer."""
    for _ in range(9):
        clock.advance(0.1 * TIMEOUT_S)
        peer.send(b"x")
    assert peer.connected
    clock.advance(0.11 * TIMEOUT_S)


def healthy(url):
    return httpx2.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200


def test_a_head_that_trickles_in(peer, clock):
    slow = peer(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    trickle(slow, clock)
    assert slow.read() == b""


def test_a_client_that_says_nothing(peer, clock):
    silent = peer()
    clock.advance(0.9 * TIMEOUT_S)
    assert silent.connected
    clock.advance(0.11 * TIMEOUT_S)
    assert silent.read() == b""


def test_a_second_head_that_trickles_in(peer, clock):
    slow = peer(GET + b"\r\nGET /he")
    assert raw.answer(slow.sock)[0] == 200
    trickle(slow, clock)
    assert slow.read() == b""


def test_a_body_that_trickles_in_after_its_answer(peer, clock):
    slow = peer(POST + b"Content-Length: 999999999\r\n\r\n")
    assert raw.answer(slow.sock)[0] == 413
    trickle(slow, clock)
    assert slow.read() == b""


def test_a_body_that_trickles_in_has_the_time_of_its_request(peer, clock):
    slow = peer(POST + b"Content-Length: 1000\r\nX-Request-Timeout-Ms: 3600000\r\n\r\n")
    for _ in range(5):
        clock.advance(TIMEOUT_S)
        slow.send(b"x")
    assert slow.connected
    late = peer(POST + b"Content-Length: 1000\r\nX-Request-Timeout-Ms: 300\r\n\r\n")
    late.sock.sendall(b"x")
    status, body = raw.answer(late.sock)
    assert status == 408
    assert b'"limit":0.3' in body


def test_a_head_without_end(peer):
    endless = peer(b"GET /healthz HTTP/1.1\r\n")
    with suppress(ConnectionError):
        endless.sock.sendall(b"".join(b"X-%d: " % n + 4000 * b"x" + b"\r\n" for n in range(17)))
    assert endless.read().startswith(b"HTTP/1.1 431 ")


def test_a_client_that_does_not_read(peer, clock, url):
    deaf = peer(50 * OPENAPI, small_buffers=True)

    def dropped():
        clock.advance(TIMEOUT_S)
        return not deaf.connected

    wait_until(dropped)
    assert deaf.read().count(b"HTTP/1.1 200") < 50
    assert healthy(url)


def test_a_slow_reader_gets_all_of_its_answers(peer, clock):
    count = 50
    slow, received, began = peer(count * OPENAPI, small_buffers=True), b"", clock.now
    while received.count(b"HTTP/1.1 200") < count:
        chunk = slow.sock.recv(65_536)
        assert chunk
        received += chunk
        clock.advance(0.2 * TIMEOUT_S)
    assert clock.now - began > 10 * TIMEOUT_S


def test_requests_sent_ahead(peer):
    answers, some = b"", peer(50 * (GET + b"\r\n"))
    while answers.count(b"HTTP/1.1 200 ") < 50:
        answers += some.sock.recv(65_536)
    many = peer()
    with suppress(ConnectionError):
        many.sock.sendall(5000 * (GET + b"\r\n"))
    answers = many.read()
    assert answers.count(b"HTTP/1.1 400 ") == 1
    assert answers.count(b"HTTP/1.1 200 ") < 200


def test_patient_use_of_one_connection(peer, clock, picture, encode):
    request = raw.post(encode(picture(64, 64)))
    patient = peer()
    for _ in range(4):
        clock.advance(0.9 * TIMEOUT_S)
        patient.sock.sendall(request)
        assert raw.answer(patient.sock)[0] == 200


def test_slow_work_is_not_a_slow_client(clock, held, tiny, picture, encode):
    _, _, first, _ = held(encode(picture(64, 64)))
    clock.advance(3 * TIMEOUT_S)
    tiny.gate.set()
    assert first.result().status_code == 200


def test_many_connections_that_say_nothing(peer, clock, url):
    silent = [peer(b"GET") for _ in range(200)]
    assert healthy(url)
    clock.advance(1.1 * TIMEOUT_S)
    assert all(one.read() == b"" for one in silent)


def test_a_client_that_wants_the_connection_closed(peer, clock, caplog):
    answer = peer(GET + b"Connection: close\r\n\r\n").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    clock.advance(2 * TIMEOUT_S)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
