"""Gates on a GPU, as far as they can be checked without one."""

import math

import pytest
import torch

from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.roi_align import roi_align
from vimserve.loadtests.gpu_check import gates
from vimserve.loadtests.gpu_check.gates import Gate, rounding_bound
from vimserve.loadtests.gpu_check.sections import Clock


def test_low_precision_is_allowed_twice_its_rounding() -> None:
    exact = torch.tensor([1.0, 1 / 3, -100.3])
    half = (exact.half().float() - exact).abs().max().item()
    assert rounding_bound(exact, torch.float16) == pytest.approx(2 * half + 100.3 * 2e-5)
    assert rounding_bound(exact, torch.float32) == pytest.approx(100.3 * 2e-5)


def test_a_gate_is_red_on_nan_and_beyond_its_bound() -> None:
    assert Gate("g", 1.0, 1.0).green
    assert not Gate("g", 1.1, 1.0).green
    assert not Gate("g", math.nan, 1.0).green


def test_the_row_of_a_gate_says_what_it_vouches_for() -> None:
    assert Gate("g", 2.0, 1.0, ("scan",)).row == {
        "gate": "g", "error": 2.0, "bound": 1.0, "of": ("scan",), "green": False,
    }  # fmt: skip


def test_every_kernel_is_compared_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gates, "LENGTHS", {"ragged": [5, 1, 3]})
    monkeypatch.setattr(gates, "WIDTHS", ((32, 8, 4, 2),))

    job, *_ = gates.kernel_jobs(torch.float32)
    rows = list(job.rows(Clock(math.inf)))

    norms = ("add_norm", "add_norm turning hidden", "add_norm turning both")
    names = ["selective_scan", "conv1d"]
    names += [f"{norm}{stream}" for norm in norms for stream in ("", " residual")]
    assert [row["gate"] for row in rows] == [f"{name} {job.name}" for name in names]
    assert all(row["green"] for row in rows), rows
    assert {subject for row in rows for subject in row["of"]} == set(job.uses)


def test_upsampling_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    jobs = list(gates.upsample_jobs(torch.bfloat16))
    rows = [row for job in jobs for row in job.rows(Clock(math.inf))]
    assert [row["gate"] for row in rows] == [f"upsample_add {job.name}" for job in jobs]
    assert all(row["green"] for row in rows), rows

    monkeypatch.setattr(gates, "upsample_add", lambda *operands, relu: None)
    assert not any(row["green"] for job in jobs for row in job.rows(Clock(math.inf)))


def test_pooling_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    jobs = list(gates.region_jobs(torch.float32))
    rows = [row for job in jobs for row in job.rows(Clock(math.inf))]
    assert [row["gate"] for row in rows] == [f"roi_align {job.name}" for job in jobs]
    assert all(row["green"] for row in rows), rows

    monkeypatch.setattr(gates, "roi_align", lambda **inputs: roi_align(**inputs) * 1.01)
    assert not any(row["green"] for job in jobs for row in job.rows(Clock(math.inf)))


def test_a_wrong_kernel_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gates, "LENGTHS", {"ragged": [5, 1, 3]})
    monkeypatch.setattr(gates, "WIDTHS", ((32, 8, 4, 2),))
    monkeypatch.setattr(gates, "conv1d", lambda *operands: conv1d(*operands) * 1.01)

    job, *_ = gates.kernel_jobs(torch.float32)
    red = [row["gate"] for row in job.rows(Clock(math.inf)) if not row["green"]]

    assert red == [f"conv1d {job.name}"]
