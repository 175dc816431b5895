"""The real server stands everything that is done to it."""

import json

from vimserve.loadtests import faults


def test_everything(tmp_path, capsys):
    file = tmp_path / "faults.json"
    status = faults.main(["--json", str(file), "--", "--threads", "1"])
    out = capsys.readouterr().out
    assert status == 0, out
    bomb, strip, hang_up, loris, sigterm = json.loads(file.read_text())
    assert bomb["came_back"].startswith("413 image-too-large after ")
    assert strip["came_back"].startswith("413 image-too-large after ")
    assert hang_up["sent"].startswith("1000 clients")
    assert loris["came_back"].startswith("200 closed by the server, the last after 1")
    assert sigterm["came_back"] == "40 of 40 answered"
    assert sigterm["survived"].endswith("with status 0")
    assert out.count("\n") == 7


def test_a_server_that_does_not_start(capsys):
    assert faults.main(["--", "--model", "resnet"]) == 1
    assert "faults: the server did not become ready: " in capsys.readouterr().err
