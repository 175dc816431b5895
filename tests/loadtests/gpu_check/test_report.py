"""The report is whole after every row, and says what not to trust."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.loadtests.gpu_check.report import LINE, Report, one_line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def written(file: Path) -> dict[str, Any]:
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    whole: dict[str, Any] = json.loads(file.read_text())
    return whole


def test_everything_is_in_the_file_at_once(file: Path) -> None:
    report = Report(file, {"minutes": 1})
    assert written(file) == {"minutes": 1, "sections": {}, "rows": {}}

    report.add("sweep", {"job": "a", "ms": 1.5})
    assert written(file)["rows"] == {"sweep": [{"job": "a", "ms": 1.5}]}

    report.leave_out("sweep", ["b", "c"])
    report.finish("sweep", "done", 2.04)
    report.head(state="done")
    whole = written(file)
    assert whole["sections"] == {"sweep": {"left_out": ["b", "c"], "state": "done", "seconds": 2.0}}
    assert whole["state"] == "done"


def test_a_red_gate_marks_what_depends_on_it_whenever_it_comes(file: Path) -> None:
    report = Report(file, {})
    report.add("models", {"job": "vim", "uses": ("scan bfloat16", "vim bfloat16")})
    report.add("models", {"job": "deit", "uses": ("deit bfloat16",)})
    report.add("gates a", {"job": "a", **Gate("g", 2, 1, ("scan bfloat16",)).row})
    report.add("gates a", {"job": "a", **Gate("h", 1, 1, ("deit bfloat16",)).row})
    report.add("models", {"job": "vim again", "uses": ("scan bfloat16",)})

    rows = {row["job"]: row for row in written(file)["rows"]["models"]}
    assert {job: row.get("red") for job, row in rows.items()} == {
        "vim": ["g"], "deit": None, "vim again": ["g"],
    }  # fmt: skip
    assert [row["gate"] for row in report.red] == ["g"]


def test_a_gate_that_failed_marks_as_a_red_one_does(file: Path) -> None:
    report = Report(file, {})
    report.add("gates a", {"job": "a", "uses": ("scan bfloat16",), "error": "no such kernel"})
    report.add("models", {"job": "vim", "uses": ("scan bfloat16",)})
    assert written(file)["rows"]["models"][0]["red"] == ["a"]
    assert [row["job"] for row in report.errors] == ["a"]


def test_a_red_gate_of_another_dtype_marks_nothing(file: Path) -> None:
    report = Report(file, {})
    report.add("gates a", {"job": "a", **Gate("g", 2, 1, ("scan float16",)).row})
    report.add("models", {"job": "vim", "uses": ("scan bfloat16",)})
    assert "red" not in written(file)["rows"]["models"][0]


def test_numbers_that_json_lacks_are_text(file: Path) -> None:
    Report(file, {}).add("gates", {"job": "a", "error": math.nan, "of": (math.inf,)})
    assert written(file)["rows"]["gates"] == [{"job": "a", "error": "nan", "of": ["inf"]}]


def test_lines_are_short_and_errors_are_their_last_line() -> None:
    assert one_line({"job": "a", "uses": ("b",), "ms": 1.23456, "images": 2}) == (
        "a, ms 1.235, images 2"
    )
    assert one_line({"job": "a", "error": "Traceback\n  here\nValueError: no"}) == (
        "ERROR a: ValueError: no"
    )
    assert one_line({"job": "a", "red": ["g"], "ms": 1.0}).startswith("RED a")
    assert len(one_line({"job": "a", **{f"key{i}": i for i in range(99)}})) == LINE
