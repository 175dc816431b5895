"""The real server stands everything that is done to it."""

import json
import re
from contextlib import contextmanager

from vimserve.loadtests import faults


def test_everything(tmp_path, capsys):
    file = tmp_path / "faults.json"
    flags = ["--model", "demo", "--threads", "1", "--drain-timeout", "600"]
    status = faults.main(["--patience", "100", "--json", str(file), "--", *flags])
    out = capsys.readouterr().out
    assert status == 0, out
    bomb, strip, hang_up, loris, sigterm = json.loads(file.read_text())
    assert bomb["came_back"].startswith("413 image-too-large after ")
    assert strip["came_back"].startswith("413 image-too-large after ")
    assert hang_up["sent"].startswith("1000 clients")
    closed = re.match(r"200 closed by the server, the last after ([\d.]+) s", loris["came_back"])
    assert float(closed[1]) >= 10  # type: ignore[index]
    assert sigterm["came_back"] == "40 of 40 answered"
    assert sigterm["survived"].endswith("with status 0")
    assert out.count("\n") == 7


def test_a_server_that_does_not_start(capsys, monkeypatch):
    @contextmanager
    def serving(flags):
        raise RuntimeError("the server did not become ready: no such model")
        yield

    monkeypatch.setattr(faults, "serving", serving)
    assert faults.main(["--", "--model", "resnet"]) == 1
    assert capsys.readouterr().err == ("faults: the server did not become ready: no such model\n")
