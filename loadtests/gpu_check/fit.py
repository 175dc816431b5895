"""Fits the costs by which ``kernels.triton_config`` chooses a schedule to the times of a sweep.

The model is the one there: a scheduler takes a unit of time for a token of each of its warps, a
lone warp takes longer, programs beyond those that fit at a time wait for a further wave, and a
program has to start. Programs, warps and registers are those of the launches that were timed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor

from vimserve.kernels import triton_config
from vimserve.kernels.triton_config import LANES, REGISTERS, SCHEDULERS
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Job, Row

STEP = 8  # a thread gets registers in steps of so many
ROUNDS = 300
NAMES = ("LONE_WARP", "TWO_WALKS", "LAUNCHES", "START")  # of ``Costs`` without its unit


@dataclass(frozen=True)
class Costs:
    """The constants of ``kernels.triton_config`` with the same names, and their unit.

    Attributes:
        unit_ms: the time that a scheduler takes for a token of a warp's channels at full rate.
    """

    unit_ms: float = 1e-4
    lone_warp: float = 2.5
    two_walks: float = 1.6
    launches: float = 50.0
    start: float = 10.0


@dataclass(frozen=True)
class Sample:
    """A time of the sweep.

    Attributes:
        tokens: the most that a program walks.
        chunked: whether there are two walks.
        waves: how often all multiprocessors are full.
        full: warps of a scheduler then.
        rest: warps of a scheduler in the last wave; 0 if there is none.
        ms: measured.
    """

    tokens: int
    chunked: bool
    waves: int
    full: float
    rest: float
    ms: float

    @classmethod
    def of(cls, row: Row, processors: int) -> "Sample":
        """The sample that a row of the sweep is on a device with so many multiprocessors."""
        warps = row["warps"]
        registers = -(-(row.get("walk_outputs_regs") or 128) // STEP) * STEP
        together = processors * max(1, REGISTERS // (registers * LANES * warps))
        waves, rest = divmod(row["programs"], together)
        full, last = (-(-n // processors) * warps / SCHEDULERS for n in (together, rest))
        return cls(row["chunk"] or row["longest"], bool(row["chunk"]), waves, full, last, row["ms"])


def jobs(report: Report) -> Iterator[Job]:
    """Fit the costs to what the sweep has measured."""
    yield Job("costs", lambda clock: rows(report))  # noqa: ARG005


def rows(report: Report) -> Iterator[Row]:
    """The fitted costs, then the choice that they make for each shape beside the best one."""
    measured = [row for row in report.rows.get("sweep", []) if "chunk" in row]
    processors = torch.cuda.get_device_properties("cuda").multi_processor_count
    samples = [Sample.of(row, processors) for row in measured]
    costs = fit(samples)
    predicted = predict(samples, costs)
    errors = [abs(p / sample.ms - 1) for p, sample in zip(predicted, samples, strict=True)]
    unit_ms, *constants = astuple(costs)
    yield {
        **dict(zip(NAMES, constants, strict=True)),
        "unit_ms": unit_ms,
        "mean_error": sum(errors) / len(errors),
        "before": {name: getattr(triton_config, name) for name in NAMES},
    }
    yield from _choices(measured, predicted)


def fit(samples: Sequence[Sample]) -> Costs:
    """Least squares of the relative errors, from ``Costs()`` on.

    Raises:
        ValueError: without samples.
    """
    if not samples:
        raise ValueError("the sweep has measured nothing to fit to")
    measured = torch.tensor([sample.ms for sample in samples], dtype=torch.float64).log()
    logs = torch.tensor([math.log(value) for value in astuple(Costs())], dtype=torch.float64)
    with torch.inference_mode(mode=False), torch.enable_grad():
        logs.requires_grad_()
        optimizer = torch.optim.LBFGS([logs], max_iter=ROUNDS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = (_predict(samples, logs.exp()).log() - measured).square().mean()
            value.backward()
            return value

        optimizer.step(loss)
    names = (field.name for field in fields(Costs))
    return Costs(**dict(zip(names, logs.detach().exp().tolist(), strict=True)))


def predict(samples: Sequence[Sample], costs: Costs) -> list[float]:
    """The milliseconds of samples by the costs."""
    return _predict(samples, torch.tensor(astuple(costs), dtype=torch.float64)).tolist()


def _predict(samples: Sequence[Sample], costs: Tensor) -> Tensor:
    unit, lone, two_walks, launches, start = costs
    columns = zip(*(astuple(sample) for sample in samples), strict=True)
    tokens, chunked, waves, full, rest, _ = (
        torch.tensor(column, dtype=torch.float64) for column in columns
    )
    token = waves * full.maximum(lone) + torch.where(rest > 0, rest.maximum(lone), 0.0)
    walk = (start + tokens) * token
    return unit * torch.where(chunked > 0, launches + two_walks * walk, walk)


def _choices(measured: Sequence[Row], predicted: Sequence[float]) -> Iterator[Row]:
    for job in dict.fromkeys(row["job"] for row in measured):
        of_job = [i for i, row in enumerate(measured) if row["job"] == job]
        best = min(of_job, key=lambda i: measured[i]["ms"])
        fitted = min(of_job, key=lambda i: predicted[i])
        now = next((i for i in of_job if measured[i]["chosen"]), best)
        row: Row = {"shape": job}
        for name, i in (("best", best), ("now", now), ("fitted", fitted)):
            row |= {f"{name}_chunk": measured[i]["chunk"], f"{name}_ms": measured[i]["ms"]}
        yield row
