"""A section outlasts neither its time nor takes others along, whatever happens in it."""

import itertools
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.patience import PATIENCE_S
from vimserve.loadtests.gpu_check import sections, supervise
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row, Section, Stage
from vimserve.loadtests.gpu_check.supervise import run_side_by_side, run_stages

Rows = Callable[[Clock], Iterator[Row]]


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "report.json", {})


def row(clock: Clock) -> Iterator[Row]:
    yield {"process": os.getpid()}


def fails(clock: Clock) -> Iterator[Row]:
    yield {"process": os.getpid()}
    raise ValueError("no such thing")


def dies(clock: Clock) -> Iterator[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield {}


def hangs(clock: Clock) -> Iterator[Row]:
    yield {"process": os.getpid()}
    time.sleep(10 * PATIENCE_S)


def section(name: str, *all_rows: Rows) -> Section:
    return Section(name, lambda: [Job(f"job {i}", rows) for i, rows in enumerate(all_rows)])


def run(report: Report, *every: Section) -> None:
    run_side_by_side(every, time.monotonic() + PATIENCE_S, 0.0, report)


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_an_exception_is_recorded_and_the_next_job_runs_in_the_same_process(
    report: Report,
) -> None:
    run(report, section("a", fails, row))

    first, error, second = report.rows["a"]
    assert first["process"] == second["process"] != os.getpid()
    assert error["job"] == "job 0"
    assert error["error"].startswith("Traceback")
    assert error["error"].endswith("ValueError: no such thing\n")
    assert report.sections["a"]["state"] == "done"


def test_jobs_that_cannot_be_made_are_recorded(report: Report) -> None:
    def no_jobs() -> list[Job]:
        raise FileNotFoundError("cases.json")

    run(report, Section("a", no_jobs))

    assert "FileNotFoundError: cases.json" in report.rows["a"][0]["error"]
    assert report.sections["a"]["state"] == "done"


def test_after_a_process_has_died_another_one_goes_on(report: Report) -> None:
    run(report, section("a", row, dies, row), section("b", row))

    first, error, second = report.rows["a"]
    assert (error["job"], error["error"]) == ("job 1", f"its process ended with {-signal.SIGKILL}")
    assert second["job"] == "job 2"
    assert first["process"] != second["process"]
    assert len(report.rows["b"]) == 1
    assert {entry["state"] for entry in report.sections.values()} == {"done"}


def test_after_the_device_has_broken_another_process_goes_on(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_processes: list[int] = []
    monkeypatch.setattr(sections, "is_broken", lambda: bool(broken_processes))

    def breaks(clock: Clock) -> Iterator[Row]:
        broken_processes.append(os.getpid())
        raise RuntimeError("illegal memory access")
        yield

    run(report, section("a", breaks, row))

    error, after = report.rows["a"]
    assert "illegal memory access" in error["error"]
    assert after["job"] == "job 1"
    assert report.sections["a"]["state"] == "done"


def test_a_section_that_breaks_again_and_again_is_given_up(report: Report) -> None:
    run(report, section("a", *[dies] * (supervise.MOST_STARTS + 1)))
    assert len(report.rows["a"]) == supervise.MOST_STARTS
    assert report.sections["a"]["state"] == "broken"


def test_what_hangs_is_killed_with_its_time(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.monotonic

    def until_both_have_begun() -> float:
        return right() + (2 * PATIENCE_S if len(report.rows) == 2 else 0)

    monkeypatch.setattr(supervise, "time", SimpleNamespace(monotonic=until_both_have_begun))

    run(report, section("a", hangs, row), section("b", row))

    (first, error) = report.rows["a"]
    assert gone(first["process"])
    assert (error["job"], error["error"]) == ("job 0", "killed 0 s after its time")
    assert report.sections["a"]["state"] == "cut"


def test_jobs_without_time_are_named(report: Report) -> None:
    run_side_by_side([section("a", row, row)], time.monotonic() - 1, PATIENCE_S, report)
    assert report.rows == {}
    assert report.sections["a"]["left_out"] == ["job 0", "job 1"]
    assert report.sections["a"]["state"] == "done"


def test_an_interruption_kills_what_runs_and_keeps_what_was_measured(
    tmp_path: Path,
) -> None:
    class Interrupted(Report):
        def add(self, section: str, row: Row) -> None:
            super().add(section, row)
            if "process" in row:
                raise KeyboardInterrupt

    report = Interrupted(tmp_path / "report.json", {})
    with pytest.raises(KeyboardInterrupt):
        run(report, section("a", hangs))

    written = json.loads((tmp_path / "report.json").read_text())
    first, error = written["rows"]["a"]
    assert gone(first["process"])
    assert error["error"] == "interrupted"
    assert written["sections"]["a"]["state"] == "cut"


def test_stages_share_what_is_left(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 100.0)  # each stage is looked at 100 s after the one before
    monkeypatch.setattr(supervise, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    ends: list[float] = []
    monkeypatch.setattr(
        supervise, "run_side_by_side", lambda sections, end, grace, report: ends.append(end)
    )

    run_stages([Stage(1, ()), Stage(1, ()), Stage(2, ())], 1000.0, report)

    # The time ends at 1000 and 15 s of grace before that; the stages begin at 100, 200 and 300.
    assert ends == pytest.approx([100 + 885 / 4, 200 + 785 / 3, 985])


def test_a_fair_share_is_that_of_the_jobs_that_are_left() -> None:
    begin = time.monotonic()
    clock = Clock(begin + 1000, 4, begin)
    assert 0 < 250 - clock.fair <= PATIENCE_S
    assert math.isclose(clock.left, 1000, abs_tol=PATIENCE_S)
