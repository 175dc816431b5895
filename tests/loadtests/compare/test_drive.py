"""Locust in a process of its own, against a real server and against a stub that answers wrongly."""

import base64
import csv
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count

import pytest
from PIL import Image

from vimserve.loadtests.compare.drive import driving
from vimserve.loadtests.compare.load import Load

METRICS = b"# TYPE vimserve_tokens counter\nvimserve_tokens_total 1\n"
SIDE = 64


def classified(turn):
    scores = [0.5 + 0.01 * (turn % 11), 0.1, 0.1, 0.1, 0.1]
    return {"predictions": [{"index": i, "label": "x", "score": s} for i, s in enumerate(scores)]}


def segmented(turn):
    mask = BytesIO()
    Image.new("P", (SIDE, SIDE), turn % 11).save(mask, "PNG")
    return {
        "classes": [{"index": turn % 11, "label": "x", "pixels": SIDE * SIDE, "fraction": 1.0}],
        "mask": base64.b64encode(mask.getvalue()).decode(),
    }


class Stub(BaseHTTPRequestHandler):
    """Says the same of a picture only every eleventh time."""

    protocol_version = "HTTP/1.1"
    turns = count()

    def do_GET(self):
        self.answer(METRICS)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        result = (segmented if "segment" in self.path else classified)(next(self.turns))
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


@pytest.fixture
def table(tmp_path):
    return tmp_path / "locust.csv"


def rows(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_answers_that_differ_are_wrong(stub, table, task):
    with driving(stub, task, table) as driver:
        turn = driver.turn(Load("demo", SIDE, 7, seconds=0))
        # All clients ask about the same picture, and no two get the same answer.
        assert turn.count == 1
        assert turn.served is not None
        assert turn.served.wrong == 6
        with pytest.raises(RuntimeError, match=r"no right answer from demo .* 1 went wrong"):
            driver.turn(Load("demo", SIDE, 1, seconds=0))
    counts = [(row["Name"], row["Request Count"], row["Failure Count"]) for row in rows(table)]
    assert counts == [("demo 64", "7", "6"), ("demo 64", "1", "1")]


def test_a_locust_that_has_ended_says_why(stub, table):
    with (
        driving(stub, "no task", table) as driver,
        pytest.raises(RuntimeError, match=r"Locust has ended: [\s\S]*no task"),
    ):
        driver.turn(Load("demo", SIDE, 1, seconds=0))


def test_a_server_that_is_not_there(table):
    with (
        driving("http://127.0.0.1:9", "classify", table) as driver,
        pytest.raises(OSError, match="Connect call failed"),
    ):
        driver.turn(Load("demo", SIDE, 1, seconds=0))
