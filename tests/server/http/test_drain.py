"""The end of the server, as the process that a signal ends."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
import torch

from tests.paths import ROOT
from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("drain") / "small.pth"
    torch.manual_seed(0)
    torch.save(
        {"model": Vim(VimConfig(width=64, depth=1, num_classes=7, grid=(4, 4))).state_dict()}, file
    )
    return f"small={file}"


@contextmanager
def serving(checkpoint, *flags):
    """A server in a process of its own, ready; (process, host and port)."""
    command = [
        sys.executable,
        "-m",
        "vimserve.server",
        "serve",
        "--port",
        "0",
        "--model",
        checkpoint,
    ]
    command += ["--threads", "1", "--log-format", "json", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        address = None
        for line in process.stderr:
            message = json.loads(line)["message"]
            if found := re.search(r"http://([\d.]+):(\d+)", message):
                address = found[1], int(found[2])
            if message.startswith("ready"):
                break
        yield process, address
    finally:
        process.kill()
        process.communicate()


def ended(process):
    """Exit status, and the rest of the log."""
    _, log = process.communicate(timeout=20)
    return process.returncode, [json.loads(line) for line in log.splitlines()]


@pytest.fixture
def upload(wait_until):
    """``upload(address, data, name)``: a request whose body is but half there."""
    with ExitStack() as stack:

        def start(address, data, name):
            sock = stack.enter_context(socket.create_connection(address, timeout=20))
            sock.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n" % name)
            sock.sendall(b"Content-Length: %d\r\n\r\n" % len(data) + data[: len(data) // 2])
            metrics = "http://{}:{}/metrics".format(*address)
            wait_until(lambda: "vimserve_inflight 1.0" in httpx2.get(metrics).text)
            return sock

        yield start


def read(sock):
    received = b""
    while chunk := sock.recv(65_536):
        received += chunk
    return received


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_answered_and_nothing_new(checkpoint, upload, number, picture, encode):
    data = encode(picture(64, 64))
    with serving(checkpoint) as (process, address), httpx2.Client() as kept:
        url = "http://{}:{}".format(*address)
        assert kept.get(f"{url}/readyz").json() == {
            "status": "ready",
            "models": {"small": {"status": "ready"}},
        }
        sock = upload(address, data, b"early")
        process.send_signal(number)
        time.sleep(0.05)

        for ask in (kept.get, httpx2.get):  # over a connection that was there, and a new one
            ready = ask(f"{url}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
            assert ready.headers["connection"] == "close"
        refused = httpx2.post(f"{url}/v1/classify", content=data)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) == refused.json()["retry_after_s"] >= 1
        assert refused.json()["value"] == "stopping"
        assert httpx2.get(f"{url}/healthz").status_code == 200
        time.sleep(0.5)
        assert httpx2.get(f"{url}/readyz").status_code == 503

        sock.sendall(data[len(data) // 2 :])
        answer = read(sock)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"predictions"' in answer
        status, log = ended(process)
    assert status == 0
    assert not [entry for entry in log if entry["level"] in ("WARNING", "ERROR")]
    lines = {entry["request_id"]: entry["status"] for entry in log if "status" in entry}
    assert lines["early"] == 200


def test_a_client_that_hangs_holds_nothing_up(checkpoint, upload, picture, encode):
    data = encode(picture(64, 64))
    with (
        serving(checkpoint, "--drain-timeout", "1") as (process, address),
        socket.create_connection(address) as head,
        socket.socket() as deaf,
    ):
        sock = upload(address, data, b"late")
        head.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(address)
        deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answer = read(sock)
        assert 0.8 < time.monotonic() - start < 2
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b'"request_id":"late"' in answer
        status, log = ended(process)
        assert time.monotonic() - start < 4
    assert status == 0
    (line,) = [entry for entry in log if entry.get("request_id") == "late"]
    assert line["status"] == 503


def test_a_second_signal_ends_it_at_once(checkpoint, upload, picture, encode):
    with serving(checkpoint) as (process, address):
        upload(address, encode(picture(64, 64)), b"late")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - start < 1


def test_nothing_under_way_is_no_reason_to_wait(checkpoint):
    with serving(checkpoint) as (process, _):
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
        assert time.monotonic() - start < 4
