"""The fit finds the costs that times were made from, and the model is that of the kernels."""

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from vimserve.kernels import triton_config
from vimserve.kernels.triton_config import chunk_tokens
from vimserve.loadtests.gpu_check import fit, sweep
from vimserve.loadtests.gpu_check.fit import Costs, Sample
from vimserve.loadtests.gpu_check.report import Report

TRUE = Costs(unit_ms=8e-5, lone_warp=2.2, two_walks=1.5, launches=140.0)
PROCESSORS, WARPS = 132, 24
SHAPES = [(count, length) for length in (197, 6085) for count in (1, 32, 128)]
CHUNKS = (0, 16, 32, 64, 80, 128)


def sample(count: int, length: int, chunk: int) -> Sample:
    busy = count * length * WARPS / (PROCESSORS * triton_config.SCHEDULERS)
    unmeasured = Sample(busy, length, chunk, 0.0)
    return dataclasses.replace(unmeasured, ms=unmeasured.predict(TRUE))


@pytest.fixture
def samples() -> list[Sample]:
    return [sample(*shape, chunk) for shape in SHAPES for chunk in CHUNKS]


def test_costs_are_found_again(samples: list[Sample]) -> None:
    found = fit.fit(samples)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(TRUE), rel=1e-3)


def test_noise_moves_them_little(samples: list[Sample]) -> None:
    noise = random.Random(0)  # noqa: S311
    noisy = [dataclasses.replace(s, ms=s.ms * noise.uniform(0.95, 1.05)) for s in samples]
    found = fit.fit(noisy)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(TRUE), rel=0.15)


def test_what_no_sample_tells_stays(samples: list[Sample]) -> None:
    found = fit.fit([s for s in samples if not s.chunk])
    assert found.lone_warp == pytest.approx(TRUE.lone_warp, rel=1e-3)
    assert found.launches * found.unit_ms > 0


def test_nothing_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="measured nothing"):
        fit.fit([])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_chooses_as_the_kernels_do(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_config, "_multiprocessors", lambda device: PROCESSORS)
    count, length = shape
    chunk = chunk_tokens(count * length, count, 2, 384, length, torch.device("cpu"))
    costs = Costs(1.0)
    sequential = sample(*shape, 0).predict(costs)
    if chunk:
        assert sample(*shape, chunk).predict(costs) < sequential
    else:
        assert min(sample(*shape, c).predict(costs) for c in (32, 64, 80)) >= sequential


def test_rows_name_the_best_the_present_and_the_fitted_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties",
        lambda device: type("P", (), {"multi_processor_count": PROCESSORS}),
    )  # fmt: skip
    report = Report(tmp_path / "r.json", {})
    for count, length in SHAPES:
        for chunk in CHUNKS:
            report.add("sweep", {
                "job": f"{count} x {length}", "tokens": count * length, "longest": length,
                "chunk": chunk, "chosen": chunk == 32, "ms": sample(count, length, chunk).ms,
            })  # fmt: skip
    report.add("sweep", {"job": "broken", "error": "no"})

    costs, *choices = fit.rows(report)

    assert costs["LONE_WARP"] == pytest.approx(TRUE.lone_warp, rel=1e-3)
    assert costs["mean_error"] < 0.01
    assert [row["shape"] for row in choices] == [f"{c} x {n}" for c, n in SHAPES]
    for row in choices:
        assert row["now_chunk"] == 32
        assert row["best_ms"] <= row["fitted_ms"] * (1 + 1e-9)
        assert row["fitted_ms"] == pytest.approx(row["best_ms"], rel=1e-3)
    assert sweep.CONFIG.inner_width // triton_config.LANES * 2 == WARPS
