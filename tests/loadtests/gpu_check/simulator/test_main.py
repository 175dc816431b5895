"""The command prints loops, predictions and comparisons."""

import json
from pathlib import Path

import pytest

from vimserve.loadtests.gpu_check.simulator import __main__ as command
from vimserve.loadtests.gpu_check.simulator import tables


def test_loops_of_an_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--arch", "sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        [f"| {model} `{loop}`", "sm_90"]
        for model in ("Vim-Ti", "Vim-S")
        for loop in ("walk_states", "walk_outputs")
    ]


def test_a_card(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SIZES", (224,))
    monkeypatch.setattr(tables, "SHOWN", ("vim-tiny", "deit-tiny"))
    assert command.main(["--card", "H100"]) == 0
    kernels, passes = capsys.readouterr().out.strip().split("\n\n")

    assert len(kernels.splitlines()) == len(passes.splitlines()) == 3
    assert passes.splitlines()[2].startswith("| H100 | 224² | ")


def test_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    row = {"model": "deit-tiny", "size": 224, "batch": 1, "mode": "graphs"}
    slow, fast, right = ({**row, "ms": ms} for ms in (1e3, 1e-3, 0.4))
    report = {"machine": {"device": "NVIDIA H100"}, "models": [slow, fast, right]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert command.main(["--report", str(tmp_path / "report.json")]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[2].endswith("× the high end |")
    assert lines[3].endswith("× the low end |")
    assert lines[4].endswith("| within |")
    assert lines[-1] == "1 of 3 measurements are within the prediction"
