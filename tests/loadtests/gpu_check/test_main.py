"""The program: what it refuses, how it ends, and what it needs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.paths import ROOT
from tests.patience import wait_until
from vimserve.loadtests.gpu_check import __main__ as gpu_check
from vimserve.loadtests.gpu_check import plan
from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Stage

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
Arrange = Callable[[Iterable[Gate]], None]


@pytest.fixture
def arrange(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """A run whose stages only add the gates given, or a row for what is measured."""

    def set_up(gates: Iterable[Gate]) -> None:
        rows = {"gates": [gate.row for gate in gates], "measured": [{"job": "m", "uses": ("s",)}],
                "machine": [{"job": "device", "device": "none"}]}  # fmt: skip

        def add(stages: list[Any], seconds: float, report: Report) -> None:
            for section in stages:
                name = section if isinstance(section, str) else "machine"
                for row in rows[name]:
                    report.add(name, {"job": name, **row})

        monkeypatch.setattr(plan, "run_stages", add)
        monkeypatch.setattr(plan, "gate_stages", lambda golden: ["gates"])
        monkeypatch.setattr(plan, "measuring_stages", lambda report, golden: ["measured"])

    return set_up


def test_green_gates_and_rows_are_success(arrange: Arrange, tmp_path: Path) -> None:
    arrange([Gate("g", 0, 1, ("s",))])
    file = tmp_path / "results" / "gpu.json"
    assert gpu_check.main([str(file), "--golden", str(tmp_path)]) == 0
    written = json.loads(file.read_text())
    assert written["state"] == "done"
    assert written["machine"]["device"] == "none"
    assert list(written["rows"]) == ["machine", "gates", "measured"]


def test_a_red_gate_marks_what_is_measured_all_the_same(arrange: Arrange, tmp_path: Path) -> None:
    arrange([Gate("g", 2, 1, ("s",))])
    file = tmp_path / "gpu.json"
    assert gpu_check.main([str(file)]) == 1
    (row,) = json.loads(file.read_text())["rows"]["measured"]
    assert row["red"] == ["g"]


def test_or_leaves_no_speed_if_that_is_wanted(arrange: Arrange, tmp_path: Path) -> None:
    arrange([Gate("g", 2, 1, ("s",))])
    file = tmp_path / "gpu.json"
    assert gpu_check.main([str(file), "--no-measure-anyway"]) == 1
    written = json.loads(file.read_text())
    assert "measured" not in written["rows"]
    assert written["state"] == "a gate is red, so no speed is measured"


def test_missing_golden_outputs_are_named(
    arrange: Arrange, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arrange([])
    monkeypatch.chdir(tmp_path)
    assert gpu_check.main(["--golden", "nowhere"]) == 0
    left_out = json.loads(Path("gpu_check.json").read_text())["left_out"]
    assert left_out["vim_tiny_224"] == "nowhere/cases.json is missing"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "LEFT OUT" in line]
    assert line == (
        f"LEFT OUT  the published outputs of {', '.join(left_out)}: nowhere/cases.json is missing"
    )


def test_a_report_that_cannot_be_written_is_said_before_anything_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path)])
    output = capsys.readouterr()
    assert "the report cannot be written: " in output.err
    assert output.out == ""


@no_gpu
def test_without_a_gpu_there_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check.main([str(tmp_path / "r.json")]) == 2
    assert capsys.readouterr().err == "gpu_check: torch finds no CUDA device on this machine\n"


def test_sigterm_leaves_a_whole_report_and_no_process(tmp_path: Path) -> None:
    program = """
import os, sys, time
from tests.loadtests.gpu_check.device import install
from vimserve.loadtests.gpu_check import plan
from vimserve.loadtests.gpu_check.__main__ import main
from vimserve.loadtests.gpu_check.sections import Job, Section, Stage

def rows(clock):
    yield {"process": os.getpid()}
    time.sleep(1e6)

install()
plan.gate_stages = lambda golden: []
section = Section("endless", lambda: [Job("endless", rows)])
plan.measuring_stages = lambda report, golden: [Stage(1, (section,))]
sys.exit(main([sys.argv[1], "--minutes", "100"]))
"""
    file = tmp_path / "report.json"

    def endless() -> list[dict[str, Any]]:
        assert process.poll() in (None, 1)
        rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"].get("endless", [])
        return rows

    with subprocess.Popen([sys.executable, "-c", program, file], cwd=ROOT) as process:
        wait_until(lambda: file.exists() or process.poll() is not None)
        wait_until(endless)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 1
    written = json.loads(file.read_text())
    assert written["state"] == "interrupted"
    first, error = endless()
    assert error["error"] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(first["process"], 0)


@pytest.mark.parametrize(
    "refused",
    [
        (),
        ("huggingface_hub", "safetensors", "httpx2", "tqdm"),
    ],
    ids=["the server's packages", "what reads checkpoints"],
)
def test_runs_from_an_installed_package_and_needs_nothing_of_the_server(
    tmp_path: Path, refused: tuple[str, ...]
) -> None:
    program = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "fastapi", "starlette", "pydantic", "pydantic_settings", "uvicorn", "tests",
            "prometheus_client", "pytest", "packaging",
            "aiohttp", "locust", "matplotlib", *sys.argv[1:],
        }:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refused())
import vimserve.loadtests.gpu_check.plan, vimserve.loadtests.gpu_check.__main__
import vimserve.loadtests.gpu_check.server_check
if not sys.argv[1:]:
    import vimserve.loadtests.common.weights, vimserve.server.engine.runner
from vimserve.loadtests.gpu_check import model_gates
print(vimserve.__file__, *model_gates.left_out(model_gates.GOLDEN))
"""
    installed = tmp_path / "vimserve"
    for part in ("kernels", "model", "loadtests", "server"):
        no_data = shutil.ignore_patterns("__pycache__", "demo", "results")
        shutil.copytree(ROOT / part, installed / part, ignore=no_data)
    shutil.copy(ROOT / "vimserve" / "__init__.py", installed)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *refused],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, *left_out = done.stdout.split()
    assert file == str(installed / "__init__.py")
    assert "vim_tiny_224" in left_out


def test_the_process_that_forks_never_asks_for_the_device() -> None:
    program = """
import torch

def refuse(*args, **options):
    raise AssertionError("the device is in use before its sections fork")

torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = refuse
import vimserve.loadtests.gpu_check.plan
import triton.runtime
assert not triton.runtime.driver._active, triton.runtime.driver._active
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_the_stages_are_those_of_the_plan(tmp_path: Path) -> None:
    report = Report(tmp_path / "r.json", {})
    stages = [*plan.gate_stages(tmp_path), *plan.measuring_stages(report, tmp_path)]
    assert all(isinstance(stage, Stage) and stage.share > 0 for stage in stages)
    names = [section.name for stage in stages for section in stage.sections]
    assert len(set(names)) == len(names)
