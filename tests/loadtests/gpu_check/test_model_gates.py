"""The gates of whole models are green where they can run without a GPU."""

import math
import shutil
from pathlib import Path

import pytest
import torch

from tests.eager_graph import EagerGraph
from tests.model.test_golden import CASES, our_config
from vimserve.loadtests.gpu_check import gates, model_gates
from vimserve.loadtests.gpu_check.model_gates import (
    DEIT_CASES,
    FIRST,
    GOLDEN,
    UPERNET_CASES,
    VIM_CASES,
    golden_config,
    left_out,
    model_jobs,
)
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.loadtests.gpu_check.sections import Clock, Row
from vimserve.model.families.vim.config import VimConfig


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gates, "DTYPES", (torch.float32,))
    monkeypatch.setattr(model_gates, "RAGGED_SIZES", [(16, 16), (32, 48)])
    monkeypatch.setattr(model_gates, "RAGGED_CONFIG", VimConfig(width=32, depth=2, num_classes=10))


def rows_of(name: str, golden: Path = GOLDEN) -> list[Row]:
    (job,) = model_jobs(golden, name)
    return list(job.rows(Clock(math.inf)))


def test_golden_cases_are_those_of_the_models_tests() -> None:
    by_name = {case["name"]: case for case in CASES}
    for name in VIM_CASES:
        assert golden_config(by_name[name]) == our_config(by_name[name])
    assert left_out(GOLDEN) == {}
    assert set(FIRST) <= {*VIM_CASES, *DEIT_CASES, *UPERNET_CASES}


def test_a_missing_golden_output_leaves_out_no_other(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    lacking = tmp_path / "vim_tiny_512.npz"
    lacking.unlink()
    assert left_out(tmp_path) == {"vim_tiny_512": f"{lacking} is missing"}
    assert model_jobs(tmp_path, "vim_tiny_512") == []
    assert model_jobs(tmp_path, "vim_tiny_224") != []


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("case", "subject", "labels"),
    [
        ("vim_tiny_320x192", "vim", [""]),
        ("ragged", "vim", [""]),
        ("deit_tiny_224", "deit", ["", " eager"]),
    ],
)
def test_classifiers(
    case: str, subject: str, labels: list[str], recorded: list[EagerGraph]
) -> None:
    rows = rows_of(case)

    assert [row["gate"] for row in rows] == [
        f"{case}{label} float32 graphs {graphs}" for label in labels for graphs in ("off", "on")
    ]
    assert all(row["green"] for row in rows), rows
    assert [row["of"] for row in rows] == [
        (f"{subject} float32",), (f"{subject} graphs float32",)
    ] * len(labels)  # fmt: skip
    assert sum(graph.replays for graph in recorded) == 2 * len(labels)


@pytest.mark.usefixtures("on_cpu")
def test_the_segmenter(recorded: list[EagerGraph]) -> None:
    rows = rows_of("seg_nano_128")
    assert [row["gate"] for row in rows] == [
        f"seg_nano_128 float32 graphs {graphs} {what}"
        for graphs in ("off", "on")
        for what in ("scores", "classes")
    ]
    assert all(row["green"] for row in rows), rows


@pytest.mark.usefixtures("on_cpu")
def test_low_precision_is_compared_with_plain_pytorch(
    monkeypatch: pytest.MonkeyPatch, recorded: list[EagerGraph]
) -> None:
    monkeypatch.setattr(gates, "DTYPES", (torch.bfloat16,))
    with gates.plain_kernels():
        off, on = rows_of("ragged")
    assert off["green"]
    assert off["bound"] == pytest.approx(2 * off["error"])  # the same code on both sides
    assert on["of"] == ("vim graphs bfloat16",)


@pytest.mark.usefixtures("on_cpu")
def test_a_wrong_model_is_red(monkeypatch: pytest.MonkeyPatch, recorded: list[EagerGraph]) -> None:
    monkeypatch.setattr(
        model_gates, "make_weights",
        lambda model: {name: 1.01 * tensor for name, tensor in make_weights(model).items()},
    )  # fmt: skip
    assert not any(row["green"] for row in rows_of("deit_tiny_224"))
