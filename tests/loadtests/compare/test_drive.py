"""Locust in a process of its own, against a real server and against a stub that answers wrongly."""

import base64
import csv
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from PIL import Image

from vimserve.loadtests.compare.drive import Load, drive

METRICS = b"# TYPE vimserve_tokens counter\nvimserve_tokens_total 1\n"
SIDE = 64


def classified(turn):
    scores = [0.5 + 0.01 * (turn % 7), 0.1, 0.1, 0.1, 0.1]
    return {"predictions": [{"index": i, "label": "x", "score": s} for i, s in enumerate(scores)]}


def segmented(turn):
    mask = BytesIO()
    Image.new("P", (SIDE, SIDE), turn % 7).save(mask, "PNG")
    return {
        "classes": [{"index": turn % 7, "label": "x", "pixels": SIDE * SIDE, "fraction": 1.0}],
        "mask": base64.b64encode(mask.getvalue()).decode(),
    }


class Stub(BaseHTTPRequestHandler):
    """Never says the same of a picture twice in a row."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self):
        self.answer(METRICS)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Stub.asked += 1
        result = (segmented if "segment" in self.path else classified)(Stub.asked)
        result["input"] = {"height": SIDE, "width": SIDE, "tokens": 17}
        self.answer(json.dumps({"model": "demo", "results": [result]}).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def load(task, clients, requests):
    """A load that takes as long as it needs."""
    return Load(task, "demo", SIDE, clients, seconds=0, requests=requests, longest_s=3600)


def rows(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_real_server_answers_all_of_it_rightly(server, tmp_path):
    table = tmp_path / "locust.csv"
    served = drive(server.url, load("classify", clients=2, requests=20), table)
    assert served.wrong == served.refused == 0
    assert served.requests >= 20
    assert served.images_per_s == pytest.approx(served.requests / served.seconds)
    assert 0 < served.p50_ms <= served.p95_ms <= served.p99_ms
    assert served.stage_ms["inference"] > 0
    assert 1 <= served.images_per_batch <= 2
    assert 0 < served.busy <= 1
    for row in rows(table):
        assert (row["model"], row["size"], row["clients"]) == ("demo", "64", "2")
        assert (int(row["Request Count"]), row["Failure Count"]) == (served.requests, "0")


def test_answers_that_differ_are_wrong(stub, tmp_path):
    table = tmp_path / "locust.csv"
    loads = [load("classify", clients=1, requests=30), load("segment", clients=1, requests=40)]
    served = [drive(stub, one, table) for one in loads]
    for one, least in zip(served, (30, 40), strict=True):
        assert one.requests >= least
        # The first answer for each of eight pictures has nothing to differ from.
        assert one.wrong > 0.8 * (one.requests - 8) > 0
    assert [row["Name"] for row in rows(table)] == 2 * ["demo 64", "Aggregated"]
    for row, one in zip(rows(table), (served[0], served[0], served[1], served[1]), strict=True):
        assert int(row["Request Count"]) == one.requests
        assert int(row["Failure Count"]) == one.wrong


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="Connect call failed"):
        drive("http://127.0.0.1:9", load("classify", 1, 1), tmp_path / "locust.csv")
