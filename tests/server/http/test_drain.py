"""The end of the server, as the process that a signal ends."""

import json
import re
import signal
import socket
import time
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
import torch

from tests.patience import PATIENCE_S, wait_until
from tests.processes import Command
from tests.server import raw
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
    command = ["serve", "--port", "0", "--model", checkpoint, "--threads", "1"]
    command += ["--max-resolution", "64", "--log-format", "json", *flags]
    with Command(*command) as process:
        address = None
        for line in process.log:
            message = json.loads(line)["message"]
            if found := re.search(r"http://([\d.]+):(\d+)", message):
                address = found[1], int(found[2])
            if message.startswith("ready"):
                break
        yield process, address


def ended(process):
    """Exit status, and the rest of the log."""
    status, log = process.ended()
    return status, [json.loads(line) for line in log.splitlines()]


def get(address, path):
    """Over a connection of its own."""
    return httpx2.get("http://{}:{}{}".format(*address, path), timeout=PATIENCE_S)


def stop(process, address, number=signal.SIGTERM):
    """Returns when the server knows."""
    process.send_signal(number)
    wait_until(lambda: get(address, "/readyz").status_code == 503)


@pytest.fixture
def upload():
    """``upload(address, data, name)``: a request whose body is but half there."""
    with ExitStack() as stack:

        def start(address, data, name):
            sock = stack.enter_context(socket.create_connection(address, PATIENCE_S))
            sock.sendall(raw.post(data, f"X-Request-Id: {name}")[: -(len(data) // 2)])
            wait_until(lambda: "vimserve_inflight 1.0" in get(address, "/metrics").text)
            return sock

        yield start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_answered_and_nothing_new(checkpoint, upload, number, picture, encode):
    data = encode(picture(64, 64))
    with serving(checkpoint) as (process, address), httpx2.Client(timeout=PATIENCE_S) as kept:
        url = "http://{}:{}".format(*address)
        assert kept.get(f"{url}/readyz").json() == {
            "status": "ready",
            "models": {"small": {"status": "ready"}},
        }
        sock = upload(address, data, "early")
        stop(process, address, number)

        # Over a connection that was there, and a new one.
        for ready in (kept.get(f"{url}/readyz"), get(address, "/readyz")):
            assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
            assert ready.headers["connection"] == "close"
        refused = httpx2.post(f"{url}/v1/classify", content=data, timeout=PATIENCE_S)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) == refused.json()["retry_after_s"] >= 1
        assert refused.json()["value"] == "stopping"
        assert get(address, "/healthz").status_code == 200
        time.sleep(0.5)
        assert get(address, "/readyz").status_code == 503

        sock.sendall(data[-(len(data) // 2) :])
        answer = raw.read(sock)
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
        socket.create_connection(address, PATIENCE_S) as head,
        socket.socket() as deaf,
    ):
        head.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        deaf.settimeout(PATIENCE_S)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(address)
        deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        deaf.recv(1)
        sock = upload(address, data, "late")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answer = raw.read(sock)
        assert time.monotonic() - start >= 1
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b'"request_id":"late"' in answer
        status, log = ended(process)
    assert status == 0
    (line,) = [entry for entry in log if entry.get("request_id") == "late"]
    assert line["status"] == 503


def test_a_second_signal_ends_it_at_once(checkpoint, upload, picture, encode):
    with serving(checkpoint) as (process, address):
        upload(address, encode(picture(64, 64)), "late")
        stop(process, address)
        assert process.running
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 128 + signal.SIGTERM


def test_nothing_under_way_is_no_reason_to_wait(checkpoint):
    with serving(checkpoint) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
