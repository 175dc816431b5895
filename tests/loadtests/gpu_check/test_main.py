"""What of the GPU check can be checked without a GPU: its counts, its gates, its imports."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.eager_graph import EagerGraph
from tests.model.test_golden import CASES, our_config
from tests.paths import ROOT
from vimserve.loadtests.gpu_check import __main__ as gpu_check
from vimserve.loadtests.gpu_check import counts, gates, measure
from vimserve.loadtests.gpu_check.counts import Cost, Floor
from vimserve.loadtests.gpu_check.gates import (
    GOLDEN,
    GOLDEN_CASES,
    Gate,
    golden_config,
    rounding_bound,
)
from vimserve.model.config import VIM_SMALL, VIM_TINY, VimConfig

TOKENS_1248 = 78 * 78 + 1
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_bytes_of_a_block_by_hand() -> None:
    D, E, projected = 192, 384, 12 + 32
    norm = 2 * D + 4 * D + 4 * D + 2 * D
    in_proj = 2 * D + 2 * 2 * E
    conv = 2 * E + 2 * 2 * E
    x_proj = 2 * 2 * E + 2 * 4 * projected
    scan = 2 * 2 * E + 2 * 4 * projected + 2 * E + 2 * 2 * E
    out_proj = 2 * 2 * E + 2 * D
    expected = norm + in_proj + conv + x_proj + scan + out_proj

    more, fewer = (counts.block(VIM_TINY, tokens, 2).bytes for tokens in (1001, 1))

    assert (more - fewer) / 1000 == expected == 14_528


def test_exponentials_of_an_image_by_hand() -> None:
    per_token = counts.scan(VIM_TINY, 1, 2).special
    assert per_token == 2 * 384 * (16 + 3)
    states_alone = 24 * TOKENS_1248 * 2 * 384 * 16
    assert math.isclose(states_alone, 1.8e9, rel_tol=0.01)


def test_flops_of_a_forward_pass_are_those_of_its_weights() -> None:
    flops = counts.forward(VIM_TINY, 1, (14, 14), 2).flops
    in_and_out = 24 * (192 * 768 + 768 * 192)  # out_proj runs over both directions
    x_proj = 24 * 2 * 384 * 44
    assert flops == 2 * (197 * (in_and_out + x_proj) + 196 * 768 * 192 + 192 * 1000)


def test_counts_grow_with_everything() -> None:
    small = counts.forward(VIM_TINY, 1, (14, 14), 2)
    for larger in (
        counts.forward(VIM_SMALL, 1, (14, 14), 2),
        counts.forward(VIM_TINY, 2, (14, 14), 2),
        counts.forward(VIM_TINY, 1, (15, 14), 2),
    ):
        assert larger.bytes > small.bytes
        assert larger.flops > small.flops
        assert larger.special > small.special
    assert counts.forward(VIM_TINY, 1, (14, 14), 4).bytes > small.bytes


@pytest.mark.parametrize("bidirectional", ["none", "layer", "ssm"])
def test_one_direction_or_one_convolution_costs_less(bidirectional: str) -> None:
    other = dataclasses.replace(VIM_TINY, bidirectional=bidirectional)  # type: ignore[arg-type]
    assert counts.block(other, 100, 2).bytes < counts.block(VIM_TINY, 100, 2).bytes


def test_the_floor_is_the_higher_of_two_bounds() -> None:
    floor = Floor.of(Cost(bytes=3_000_000, special=500), bytes_per_s=3e12, special_per_s=1e3)
    assert (floor.bytes_ms, floor.special_ms, floor.ms) == (1e-3, 500.0, 500.0)


def test_low_precision_is_allowed_twice_its_rounding() -> None:
    exact = torch.tensor([1.0, 1 / 3, -100.3])
    half = (exact.half().float() - exact).abs().max().item()
    assert rounding_bound(exact, torch.float16) == pytest.approx(2 * half + 100.3 * 2e-5)
    assert rounding_bound(exact, torch.float32) == pytest.approx(100.3 * 2e-5)


def test_a_gate_is_red_on_nan_and_beyond_its_bound() -> None:
    assert Gate("g", 1.0, 1.0).green
    assert not Gate("g", 1.1, 1.0).green
    assert not Gate("g", math.nan, 1.0).green


def test_red_gates_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    report: dict[str, object] = {}
    assert gpu_check.pass_gates(report, [Gate("fine", 0.0, 1.0)])
    assert not gpu_check.pass_gates(report, [Gate("bad", 2.0, 1.0), Gate("good", 0.0, 1.0)])
    assert [gate["green"] for gate in report["gates"]] == [True, False, True]  # type: ignore[attr-defined]
    assert capsys.readouterr().out == "RED  bad: error 2.000e+00, bound 1.000e+00\n"


@pytest.fixture
def no_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gates of ``main`` are two made-up ones, the first of which is red."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "describe_machine", lambda: {"device": "none"})
    monkeypatch.setattr(gates, "kernel_gates", lambda: iter([Gate("a", 1, 0)]))
    monkeypatch.setattr(gates, "model_gates", lambda golden: iter([Gate("b", 0, 0)]))
    monkeypatch.setattr(measure, "everything", lambda **_: pytest.fail("measured"))


@pytest.mark.usefixtures("no_measurements")
def test_a_red_gate_leaves_no_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "results" / "gpu.json"

    assert gpu_check.main([str(report)]) == 1

    written = json.loads(report.read_text())
    assert [gate["name"] for gate in written["gates"]] == ["a", "b"]
    assert "models" not in written
    assert written["left_out"] == {}
    output = capsys.readouterr()
    assert "no speed is measured" in output.err
    assert "LEFT OUT" not in output.out


@pytest.mark.usefixtures("no_measurements")
def test_missing_golden_outputs_are_named_and_everything_else_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert gpu_check.main(["--golden", "nowhere"]) == 1

    written = json.loads(Path("gpu_check.json").read_text())
    assert written["left_out"] == dict.fromkeys(GOLDEN_CASES, "nowhere/cases.json is missing")
    assert [gate["name"] for gate in written["gates"]] == ["a", "b"]
    lines = [line for line in capsys.readouterr().out.splitlines() if "LEFT OUT" in line]
    assert lines == [
        f"LEFT OUT  the published outputs of {', '.join(GOLDEN_CASES)}: "
        "nowhere/cases.json is missing"
    ]


def test_one_missing_golden_output_leaves_out_no_other(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    lacking = tmp_path / "vim_tiny_512.npz"
    lacking.unlink()
    assert gates.left_out(GOLDEN) == {}
    assert gates.left_out(tmp_path) == {"vim_tiny_512": f"{lacking} is missing"}


@pytest.mark.usefixtures("no_measurements")
def test_a_report_that_cannot_be_written_is_said_before_anything_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path)])
    output = capsys.readouterr()
    assert "the report cannot be written: " in output.err
    assert output.out == ""


@no_gpu
def test_without_a_gpu_there_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    output = capsys.readouterr()
    assert output.err == "gpu_check: torch finds no CUDA device on this machine\n"
    assert output.out == ""


def test_golden_cases_are_those_of_the_models_tests() -> None:
    by_name = {case["name"]: case for case in CASES}
    for name in GOLDEN_CASES:
        assert golden_config(by_name[name]) == our_config(by_name[name])
        assert (GOLDEN / f"{name}.npz").is_file()


def test_model_gates_are_green_where_they_can_run(
    monkeypatch: pytest.MonkeyPatch, recorded: list[EagerGraph], tmp_path: Path
) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gates, "DTYPES", (torch.float32,))
    monkeypatch.setattr(gates, "GOLDEN_CASES", ("vim_tiny_320x192",))
    monkeypatch.setattr(gates, "RAGGED_SIZES", [(16, 16), (32, 48)])
    monkeypatch.setattr(gates, "RAGGED_CONFIG", VimConfig(width=32, depth=2, num_classes=10))

    made = list(gates.model_gates(GOLDEN))

    assert [gate.name for gate in made] == [
        f"{name} float32 graphs {graphs}"
        for name in ("vim_tiny_320x192", "ragged")
        for graphs in ("off", "on")
    ]
    assert all(gate.green for gate in made), made
    assert sum(graph.replays for graph in recorded) == 4

    without = list(gates.model_gates(tmp_path))

    assert [gate.name for gate in without] == [gate.name for gate in made[2:]]
    assert all(gate.green for gate in without), without


@pytest.mark.parametrize(
    "refused",
    [
        (),
        ("huggingface_hub", "safetensors", "httpx2", "tqdm"),
    ],
    ids=["the server", "what reads checkpoints"],
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
            "prometheus_client", "pytest",
            "aiohttp", "locust", "matplotlib", *sys.argv[1:],
        } or name.startswith("vimserve.server"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refused())
import vimserve.loadtests.gpu_check.measure, vimserve.loadtests.gpu_check.__main__
from vimserve.loadtests.gpu_check import gates
print(vimserve.__file__, *gates.left_out(gates.GOLDEN))
"""
    installed = tmp_path / "vimserve"
    for part in ("kernels", "model", "loadtests"):
        no_data = shutil.ignore_patterns("__pycache__", "demo", "results")
        shutil.copytree(ROOT / part, installed / part, ignore=no_data)
    shutil.copy(ROOT / "vimserve" / "__init__.py", installed)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *refused],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / "__init__.py"), *GOLDEN_CASES]
