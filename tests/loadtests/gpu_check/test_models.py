"""Batches grow until there is a reason to stop, and the report says which."""

import math
import time
from pathlib import Path

import pytest
import torch

from vimserve.loadtests.gpu_check import models
from vimserve.loadtests.gpu_check.models import Figures, square_batch, uses
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Clock, Row
from vimserve.model.families.vim.config import VIM_TINY
from vimserve.model.families.vim.model import Vim

MANY = Clock(math.inf)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "r.json", {})


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of 100 bytes; an image takes 10 ms and a byte."""
    monkeypatch.setattr(models, "build", lambda name: Vim(VIM_TINY))
    monkeypatch.setattr(models, "_graphed", lambda *labels: iter([{"recorded": labels[2]}]))
    monkeypatch.setattr(
        models, "_measure", lambda model, run, size, images: (10.0 * images, images)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 10)


def many(report: Report, clock: Clock = MANY) -> list[Row]:
    rows = models._many("vim-tiny", 224, report)
    return list(rows(clock))


def test_until_the_memory_is_full(report: Report) -> None:
    *measured, recorded = many(report)
    assert [row["images"] for row in measured] == [2, 4, 8, 16, 32, 64]
    assert ["stopped" in row for row in measured] == [False] * 5 + [True]
    assert measured[-1]["stopped"].startswith("twice the batch takes more than")
    assert recorded == {"recorded": 64}


def test_until_a_pass_takes_too_long(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LONGEST_MS", 100.0)
    *measured, _ = many(report)
    assert [row["images"] for row in measured] == [2, 4, 8]
    assert measured[-1]["stopped"] == "twice the batch takes too long"


def test_until_the_time_is_over(report: Report) -> None:
    over = Clock(time.monotonic(), 1, time.monotonic())
    *measured, _ = many(report, over)
    assert [(row["images"], row["stopped"]) for row in measured] == [(2, "no time")]


def test_running_out_of_memory_ends_the_growth_alone(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(model: object, run: object, size: int, images: int) -> Figures:
        if images > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 10.0, 1

    monkeypatch.setattr(models, "_measure", measure)
    *measured, last, recorded = many(report)
    assert [row["images"] for row in measured] == [2, 4]
    assert (last["images"], last["stopped"]) == (8, "out of memory")
    assert recorded == {"recorded": 8}


def test_a_recorded_batch_is_no_larger_than_the_servers(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "GRAPH_TOKENS", 10 * 197)
    *_, recorded = many(report)
    assert recorded == {"recorded": 8}


def test_rows_have_the_floors_of_the_measured_rates(report: Report) -> None:
    assert "over_floor" not in many(report)[0]
    report.add("machine", {"job": "rates", "special_per_s": 1e12, "copy_bytes_per_s": 1e12})
    row = many(report)[0]
    assert row["images_per_s"] == 100.0
    assert row["over_floor"] == row["ms"] / max(row["floor_bytes_ms"], row["floor_special_ms"])


def test_one_image_of_all_sizes_comes_before_many(report: Report) -> None:
    names = [job.name for job in models.jobs(report)]
    assert names[:2] == ["vim-tiny 1248 one", "deit-tiny 1248 one"]
    assert [name.endswith("one") for name in names] == [True] * 18 + [False] * 18
    assert len(set(names)) == 36


def test_what_figures_depend_on() -> None:
    assert uses("deit-tiny-eager") == ("deit bfloat16", "deit graphs bfloat16")
    assert {"vim bfloat16", "vim graphs bfloat16", "conv1d bfloat16"} < set(uses("vim-tiny"))


def test_a_batch_of_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.randint
    monkeypatch.setattr(torch, "randint", lambda *a, device, **o: right(*a, **o))
    batch = square_batch(VIM_TINY, 48, 3)
    assert batch.grids == ((3, 3),) * 3
    assert (batch.patches.shape, batch.patches.dtype) == ((27, 768), torch.uint8)
