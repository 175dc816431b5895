"""The fit finds the costs that times were made from."""

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vimserve.loadtests.gpu_check import fit
from vimserve.loadtests.gpu_check.fit import Costs, Sample, predict
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Row

TRUE = Costs(unit_ms=8e-5, lone_warp=2.2, two_walks=1.5, launches=140.0, start=5.0)
PROCESSORS, BLOCKS, WARPS, REGISTERS = 132, 6, 4, 128
SHAPES = [(count, length) for length in (197, 6085) for count in (1, 8, 32, 128)]
CHUNKS = (0, 8, 16, 32, 64, 80, 128)


def row(count: int, length: int, chunk: int) -> Row:
    runs = -(-count * length // chunk) if chunk else count
    unmeasured = {
        "job": f"{count} x {length}", "longest": length, "chunk": chunk, "chosen": chunk == 32,
        "programs": BLOCKS * runs, "warps": WARPS, "walk_outputs_regs": REGISTERS, "ms": 0.0,
    }  # fmt: skip
    (ms,) = predict([Sample.of(unmeasured, PROCESSORS)], TRUE)
    return {**unmeasured, "ms": ms}


@pytest.fixture
def samples() -> list[Sample]:
    rows = [row(*shape, chunk) for shape in SHAPES for chunk in CHUNKS]
    return [Sample.of(each, PROCESSORS) for each in rows]


def test_a_sample_by_hand() -> None:
    # 528 programs of 4 warps fit at a time, 4 on each multiprocessor; 8 · 6085 / 80 runs need 7.
    sample = Sample.of(row(8, 6085, 80), PROCESSORS)
    assert dataclasses.astuple(sample)[:5] == (80, True, 6, 4.0, 4.0)
    token = 7 * 4.0
    expected = TRUE.unit_ms * (140 + 1.5 * (5 + 80) * token)
    assert sample.ms == pytest.approx(expected)
    alone = Sample.of(row(1, 197, 0), PROCESSORS)
    assert dataclasses.astuple(alone)[:5] == (197, False, 0, 4.0, 1.0)
    assert alone.ms == pytest.approx(TRUE.unit_ms * (5 + 197) * 2.2)


def test_costs_are_found_again(samples: list[Sample]) -> None:
    found = fit.fit(samples)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(TRUE), rel=1e-2)


def test_noise_moves_the_predictions_little(samples: list[Sample]) -> None:
    noise = random.Random(0)  # noqa: S311
    noisy = [dataclasses.replace(s, ms=s.ms * noise.uniform(0.95, 1.05)) for s in samples]
    found = fit.fit(noisy)
    assert predict(samples, found) == pytest.approx([s.ms for s in samples], rel=0.06)


def test_nothing_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="measured nothing"):
        fit.fit([])


def test_rows_name_the_best_the_present_and_the_fitted_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(multi_processor_count=PROCESSORS)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    report = Report(tmp_path / "r.json", {})
    for shape in SHAPES:
        for chunk in CHUNKS:
            report.add("sweep", row(*shape, chunk))
    report.add("sweep", {"job": "broken", "error": "no"})

    costs, *choices = fit.rows(report)

    assert costs["LONE_WARP"] == pytest.approx(TRUE.lone_warp, rel=1e-2)
    assert costs["mean_error"] < 0.01
    assert set(costs["before"]) == set(fit.NAMES)
    assert [choice["shape"] for choice in choices] == [f"{c} x {n}" for c, n in SHAPES]
    for choice in choices:
        assert choice["now_chunk"] == 32
        assert choice["fitted_ms"] == pytest.approx(choice["best_ms"], rel=1e-2)
