"""Wheels are installed without network, and each program ends within its time."""

import json
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S, wait_until
from vimserve.loadtests.compare.__main__ import _parse as parse_compare
from vimserve.loadtests.gpu_check import server_check
from vimserve.loadtests.gpu_check.server_check import Program, programs
from vimserve.loadtests.soak.__main__ import _parse as parse_soak


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel of one module, ``carried``."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "carried-1.0.dist-info"
    with zipfile.ZipFile(folder / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "WORD = 'carried'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def run(wheels: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *every: Program) -> int:
    monkeypatch.setattr(server_check, "programs", lambda options, folder: [*every])
    return server_check.main([str(wheels), "--output", str(folder)])


def test_programs_use_what_was_carried(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    prints = Program("prints", ["-c", "import carried; print(carried.WORD)"], PATIENCE_S)
    assert run(wheels, tmp_path / "out", monkeypatch, prints) == 0
    assert (tmp_path / "out" / "prints.log").read_text() == "carried\n"
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" after ")[0] for line in lines] == [
        "install: status 0", "prints: status 0"
    ]  # fmt: skip


def test_a_failure_is_shown_and_the_next_program_runs(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fails = Program("fails", ["-c", "raise SystemExit('why')"], PATIENCE_S)
    after = Program("after", ["-c", "print('here')"], PATIENCE_S)
    assert run(wheels, tmp_path / "out", monkeypatch, fails, after) == 1
    assert "\nwhy\n" in capsys.readouterr().out
    assert (tmp_path / "out" / "after.log").read_text() == "here\n"


CUT = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e6)"])
print(child.pid, flush=True)
try:
    Path(sys.argv[1]).touch()
    time.sleep(1e6)
except KeyboardInterrupt:
    Path(sys.argv[2]).touch()
    if sys.argv[3] == "stays":
        time.sleep(1e6)
"""


def ended(process: int) -> bool:
    """Whether it is gone, or waits only for who asks how it ended."""
    try:
        stat = Path("/proc", str(process), "stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize("then", ["ends", "stays"])
def test_when_its_time_is_over_a_program_keeps_what_it_has_and_ends_with_its_children(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "STOP_S", 1.0 if then == "stays" else PATIENCE_S)
    begun, kept = tmp_path / "begun", tmp_path / "kept"
    process = subprocess.Popen(
        [sys.executable, "-c", CUT, begun, kept, then],
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_until(begun.exists)

    assert server_check._wait(process, 0) == server_check.CUT

    assert kept.exists() or then == "stays"
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.stdout.close()
    wait_until(lambda: ended(child))


def test_a_program_that_was_cut_is_a_failure(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(server_check, "STOP_S", PATIENCE_S)
    endless = Program("endless", ["-c", "import time; time.sleep(1e6)"], 0)
    assert run(wheels, tmp_path / "out", monkeypatch, endless) == 1
    assert "endless: cut after" in capsys.readouterr().out


def test_without_wheels_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", tmp_path / "out", monkeypatch) == 1
    assert "is no folder" in capsys.readouterr().err


def test_the_programs_take_their_arguments(tmp_path: Path) -> None:
    options = Namespace(device="cuda", minutes=3.0, compare_minutes=4.0)
    compare, soak = programs(options, tmp_path)
    assert compare.arguments[:2] == ["-m", "vimserve.loadtests.compare"]
    parsed = parse_compare(compare.arguments[2:])
    assert (parsed.device, parsed.quick, parsed.output) == ("cuda", True, tmp_path / "compare")
    assert soak.arguments[:2] == ["-m", "vimserve.loadtests.soak"]
    taken = parse_soak(soak.arguments[2:])
    assert (taken.seconds, taken.flags) == (180.0, ["--device", "cuda"])
    assert taken.json == tmp_path / "soak.json"
    assert compare.seconds == 240.0
    assert soak.seconds > 180.0
    assert json.dumps(compare.arguments)
