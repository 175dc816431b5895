import asyncio
import json
import os
import threading
import time
from contextlib import nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vimserve.loadtests.common.images import intact
from vimserve.loadtests.common.process import cpu_seconds
from vimserve.loadtests.http_overhead import __main__ as http_overhead
from vimserve.loadtests.http_overhead import bare, pairs, protocols
from vimserve.loadtests.http_overhead.clients import drive


class Stub(BaseHTTPRequestHandler):
    """Answers every POST alike, after a while; keeps connections."""

    protocol_version = "HTTP/1.1"
    status = 200
    answer = b"{}"

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        time.sleep(0.01)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        with suppress(ConnectionError):  # the client has left because of the status
            self.wfile.write(self.answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def stub(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        server.bodies = []  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_drives_all_bodies_for_the_time(stub, seconds):
    driven = drive(stub.url, "/", [b"a", b"bb", b"ccc"], 2, seconds)
    assert driven.images == len(stub.bodies)
    assert set(stub.bodies) == {b"a", b"bb", b"ccc"}
    assert driven.seconds >= seconds
    assert driven.images <= 2 * driven.seconds / 0.01
    assert driven.cpu_s > 0


def test_a_refusal_ends_the_measurement(stub, monkeypatch):
    monkeypatch.setattr(Stub, "status", 503)
    monkeypatch.setattr(Stub, "answer", b"busy")
    with pytest.raises(RuntimeError, match="/x answered 503: b'busy'"):
        drive(stub.url, "/x", [b"a"], 2, 5)


def test_the_bare_loop():
    bare.load("demo", None, [intact(64, 64, seed) for seed in range(3)])
    looped = bare.loop(4, 0.2)
    assert looped.images % 4 == 0
    assert looped.seconds >= 0.2
    assert looped.cpu_s > 0
    assert [sum(scores) for scores in bare.scores()] == pytest.approx([1, 1, 1], abs=1e-4)


def test_cpu_seconds_of_a_process():
    tick = 1 / os.sysconf("SC_CLK_TCK")
    outer = time.process_time()
    before = cpu_seconds(os.getpid())
    inner = time.process_time()
    while time.process_time() < inner + 0.3:
        pass
    spent = time.process_time() - inner
    used = cpu_seconds(os.getpid()) - before
    assert spent - 2 * tick <= used <= time.process_time() - outer + 2 * tick
    with pytest.raises(OSError, match="stat"):
        cpu_seconds(2**22 + 1)


def test_compares_the_demo_at_64_pixels(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pairs, "serving", lambda flags: nullcontext(server))
    report = tmp_path / "report.json"
    arguments = ["--model", "demo", "--size", "64", "--pairs", "2", "--seconds", "0.1"]
    assert http_overhead.main([*arguments, "--json", str(report)]) == 0
    (comparison,) = json.loads(report.read_text())["comparisons"]
    assert (comparison["model"], comparison["pixels"], comparison["connections"]) == (
        "demo",
        64,
        16,
    )
    assert comparison["best_batch"] in pairs.BATCHES
    assert len(comparison["pairs"]) == 2
    for pair in comparison["pairs"]:
        assert all(value > 0 for value in pair.values())
    assert "demo" in capsys.readouterr().out.splitlines()[-1]


def test_ratios_are_of_pairs():
    both = [pairs.Pair(bare, 20, server, 1, 1, 1) for bare, server in [(10, 9), (20, 10)]]
    comparison = pairs.Comparison("demo", 64, 8, 16, both)
    assert comparison.ratios("bare") == [0.9, 0.5]
    assert comparison.ratios("best") == [0.45, 0.5]
    assert comparison.median("bare") == 15


def prediction(score):
    return {"results": [{"predictions": [{"index": 1, "score": score}]}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (prediction(0.26), "4.00e-02 of it off the bare model's"),
        (prediction(float("nan")), "nan of it off the bare model's"),
        ({"detail": "too large"}, "refuses an image: too large"),
    ],
)
def test_no_speed_is_reported_of_a_server_that_answers_otherwise(
    stub, monkeypatch, answer, message
):
    monkeypatch.setattr(Stub, "answer", json.dumps(answer).encode())
    with pytest.raises(RuntimeError, match=message):
        asyncio.run(pairs.check(stub.url, "/", [b"a"], [[0.75, 0.25]]))


def test_a_model_that_cannot_be_compared(monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("the server's score is off")

    monkeypatch.setattr(http_overhead, "compare_with_bare", fail)
    assert http_overhead.main(["--model", "demo"]) == 1
    assert capsys.readouterr().err == "http_overhead: the server's score is off\n"


def test_protocols(capsys):
    assert protocols.main(["--size", "64", "--turns", "1", "--seconds", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [
        ["64", name] for name in ("bare", *protocols.PROTOCOLS)
    ]
    assert all(float(line.split()[2]) > 0 for line in lines)
