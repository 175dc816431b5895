import json
from pathlib import Path

import pytest

from vimserve.model import bench


def test_a_deit_is_measured_with_either_attention(capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--model", "deit-tiny", "--model", "deit-tiny-eager"]

    assert bench.main([*both, "--size", "32"]) == 0

    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[:2] for row in rows] == [["deit-tiny", "32"], ["deit-tiny-eager", "32"]]


def test_a_resnet_is_measured_by_its_patches() -> None:
    forward = bench.Forward(bench.load("resnet-50", "random", 1), 40, batch=2)
    assert (forward.size, forward.tokens) == (48, 9)
    assert forward.seconds() > 0


def test_measures_time_and_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "bench.json"

    assert (
        bench.main(["--model", "demo", "--size", "100", "--batch", "2", "--json", str(report)]) == 0
    )

    (result,) = json.loads(report.read_text())
    assert (result["model"], result["size"], result["batch"]) == ("demo", 112, 2)
    assert result["runs"] >= bench.LEAST_RUNS
    assert 0 < result["fastest_ms"] <= result["median_ms"]
    assert result["images_per_second"] == pytest.approx(2e3 / result["median_ms"])
    assert 0 < result["peak_above_weights_bytes"] < 100e6
    assert "images/s" in capsys.readouterr().out
