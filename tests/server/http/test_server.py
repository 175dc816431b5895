"""Clients that never finish lose their connection, and nobody else does."""

import socket
import time

import pytest

from vimserve.server.http.server import Protocol

POST = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def impatient(serve, monkeypatch):
    """The client of a server that gives a stalled connection half a second."""
    monkeypatch.setattr("vimserve.server.http.server.CLIENT_TIMEOUT_S", 0.5)
    return serve()[0]


def read(sock):
    received = b""
    try:
        while chunk := sock.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def trickle(sock, data, seconds=5):
    """Send ``data`` again and again; how long the server bore it."""
    start = time.monotonic()
    try:
        while time.monotonic() - start < seconds:
            sock.sendall(data)
            time.sleep(0.05)
    except ConnectionError:
        pass
    return time.monotonic() - start


def test_a_head_that_trickles_in(impatient, connect):
    sock = connect(impatient, b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    assert 0.4 < trickle(sock, b"x") < 2
    assert read(sock) == b""


def test_a_client_that_says_nothing(impatient, connect):
    start = time.monotonic()
    assert read(connect(impatient)) == b""
    assert 0.4 < time.monotonic() - start < 2


def test_a_second_head_that_trickles_in(impatient, connect):
    sock = connect(impatient, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he")
    assert 0.4 < trickle(sock, b"x") < 2
    assert read(sock).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_trickles_in_after_its_answer(impatient, connect):
    sock = connect(impatient, POST + b"Content-Length: 999999999\r\n\r\n")
    assert sock.recv(65_536).startswith(b"HTTP/1.1 413 ")
    assert 0.4 < trickle(sock, b"x") < 2


def test_a_body_that_trickles_in_ends_with_the_requests_time(impatient, connect):
    head = POST + b"Content-Length: 1000\r\nX-Request-Timeout-Ms: 900\r\n\r\n"
    sock = connect(impatient, head)
    assert 0.8 < trickle(sock, b"x") < 3
    answer = read(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"limit":0.9' in answer


def test_a_head_without_end(impatient, connect):
    sock = connect(impatient, b"GET /healthz HTTP/1.1\r\n")
    for number in range(17):
        time.sleep(0.005)
        sock.sendall(b"X-%d: " % number + 4000 * b"x" + b"\r\n")
    assert read(sock).startswith(b"HTTP/1.1 431 ")


@pytest.fixture
def small_buffers(impatient, monkeypatch):
    """A connection on which hardly anything is on its way unread."""
    made = Protocol.connection_made

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        made(self, transport)

    monkeypatch.setattr(Protocol, "connection_made", connection_made)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect((impatient.base_url.host, impatient.base_url.port))
        yield sock


def test_a_client_that_does_not_read(impatient, small_buffers, wait_until):
    small_buffers.sendall(50 * b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(1.5)
    assert read(small_buffers).count(b"HTTP/1.1 200") < 50
    assert impatient.get("/healthz").status_code == 200


def test_a_slow_reader_gets_all_of_its_answers(small_buffers):
    count = 50
    small_buffers.sendall(count * b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    start, received = time.monotonic(), b""
    while received.count(b"HTTP/1.1 200") < count:
        chunk = small_buffers.recv(65_536)
        assert chunk
        received += chunk
        if time.monotonic() - start < 2:
            time.sleep(0.02)


def test_requests_sent_ahead(impatient, connect):
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert read(connect(impatient, 50 * ask)).count(b"HTTP/1.1 200 ") == 50
    answers = read(connect(impatient, 5000 * ask))
    assert answers.count(b"HTTP/1.1 400 ") == 1
    assert answers.count(b"HTTP/1.1 200 ") < 200


def test_patient_use_of_one_connection(impatient, picture, encode):
    data = encode(picture(64, 64))
    for _ in range(4):
        time.sleep(0.2)
        assert impatient.post("/v1/classify", content=data).status_code == 200


def test_slow_work_is_not_a_slow_client(held, tiny, monkeypatch, picture, encode):
    monkeypatch.setattr("vimserve.server.http.server.CLIENT_TIMEOUT_S", 0.2)
    _, _, first, _ = held(encode(picture(64, 64)))
    time.sleep(0.6)
    tiny.gate.set()
    assert first.result().status_code == 200


def test_many_connections_that_say_nothing(impatient, connect):
    silent = [connect(impatient, b"GET") for _ in range(200)]
    assert impatient.get("/healthz").status_code == 200
    start = time.monotonic()
    assert all(read(sock) == b"" for sock in silent)
    assert time.monotonic() - start < 3


def test_a_client_that_wants_the_connection_closed(impatient, connect, caplog):
    sock = connect(impatient, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert read(sock).startswith(b"HTTP/1.1 200 ")
    time.sleep(0.6)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
