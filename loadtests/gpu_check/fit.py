"""Fits the costs by which ``kernels.triton_config`` chooses a schedule to the times of a sweep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vimserve.kernels.triton_config import LANES, LAUNCHES, LONE_WARP, SCHEDULERS, TWO_WALKS
from vimserve.loadtests.gpu_check import counts, sweep
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Job, Row

ROUNDS = 50
LEAST_TOKENS = 16  # a smaller chunk costs more than its model says: its states are most of it


@dataclass(frozen=True)
class Costs:
    """The constants of ``kernels.triton_config`` with the same names, and their unit.

    Attributes:
        unit_ms: the time that a scheduler takes for a token of a warp's channels at full rate.
    """

    unit_ms: float
    lone_warp: float = LONE_WARP
    two_walks: float = TWO_WALKS
    launches: float = LAUNCHES

    @property
    def coefficients(self) -> np.ndarray:
        """Milliseconds: of the unit, of a lone warp's token, of both walks and of the launches."""
        return self.unit_ms * np.array([1.0, self.lone_warp, self.two_walks, self.launches])


@dataclass(frozen=True)
class Sample:
    """A time of the sweep.

    Attributes:
        busy: tokens of a warp's channels for each scheduler.
        longest: tokens of the longest sequence.
        chunk: tokens of a chunk, or 0.
        ms: measured.
    """

    busy: float
    longest: int
    chunk: int
    ms: float

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """How often each of ``Costs.coefficients`` counts, if the device is busy and if not."""
        if self.chunk:
            return np.array([0, 0, self.busy, 1.0]), np.array([0, 2.0 * self.chunk, 0, 1.0])
        return np.array([self.busy, 0, 0, 0]), np.array([0, float(self.longest), 0, 0])

    def predict(self, costs: Costs) -> float:
        """The milliseconds that the costs predict: the higher of the two bounds."""
        return float(max(bound @ costs.coefficients for bound in self.bounds))


def jobs(report: Report) -> Iterator[Job]:
    """Fit the costs to what the sweep has measured."""
    yield Job("costs", lambda clock: rows(report))  # noqa: ARG005


def rows(report: Report) -> Iterator[Row]:
    """The fitted costs, then the choice that they make for each shape beside the best one."""
    measured = [row for row in report.rows.get("sweep", []) if "chunk" in row]
    processors = torch.cuda.get_device_properties("cuda").multi_processor_count
    warps = counts.directions(sweep.CONFIG) * -(-sweep.CONFIG.inner_width // LANES)
    samples = [
        Sample(
            row["tokens"] * warps / (processors * SCHEDULERS),
            row["longest"], row["chunk"], row["ms"],
        )
        for row in measured
    ]  # fmt: skip
    costs = fit([s for s in samples if not s.chunk or s.chunk >= LEAST_TOKENS])
    errors = [abs(sample.predict(costs) / sample.ms - 1) for sample in samples]
    yield {
        "LONE_WARP": costs.lone_warp, "TWO_WALKS": costs.two_walks, "LAUNCHES": costs.launches,
        "unit_ms": costs.unit_ms, "mean_error": float(np.mean(errors)),
        "before": [LONE_WARP, TWO_WALKS, LAUNCHES],
    }  # fmt: skip
    yield from _choices(measured, samples, costs)


def fit(samples: Sequence[Sample]) -> Costs:
    """Least squares of the relative errors.

    Each sample is explained by the higher of its two bounds; which one that is depends on the
    costs, so they are fitted again until it stays. A constant that no sample tells keeps its value.

    Raises:
        ValueError: without samples.
    """
    if not samples:
        raise ValueError("the sweep has measured nothing to fit to")
    start = Costs(1.0)
    unit = float(np.median([sample.ms / sample.predict(start) for sample in samples]))
    coefficients = Costs(unit).coefficients
    for _ in range(ROUNDS):
        terms = np.array([
            max(sample.bounds, key=lambda bound: float(bound @ coefficients)) / sample.ms
            for sample in samples
        ])  # fmt: skip
        told = terms.any(axis=0)
        found, *_ = np.linalg.lstsq(terms[:, told], np.ones(len(samples)), rcond=None)
        new = coefficients.copy()
        new[told] = np.maximum(found, 1e-3 * coefficients[told])
        if np.allclose(new, coefficients, rtol=1e-6):
            break
        coefficients = new
    unit, lone, walks, launches = coefficients.tolist()
    return Costs(unit, lone / unit, walks / unit, launches / unit)


def _choices(measured: list[Row], samples: list[Sample], costs: Costs) -> Iterator[Row]:
    for job in dict.fromkeys(row["job"] for row in measured):
        of_job = [i for i, row in enumerate(measured) if row["job"] == job]
        best = min(of_job, key=lambda i: measured[i]["ms"])
        fitted = min(of_job, key=lambda i: samples[i].predict(costs))
        now = next((i for i in of_job if measured[i]["chosen"]), best)
        yield {
            "shape": job,
            **{
                key: value
                for name, i in (("best", best), ("now", now), ("fitted", fitted))
                for key, value in (
                    (f"{name}_chunk", measured[i]["chunk"]), (f"{name}_ms", measured[i]["ms"])
                )
            },
        }  # fmt: skip
