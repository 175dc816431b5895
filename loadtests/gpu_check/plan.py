"""What a run does, in which order, and in which share of its time."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from vimserve.loadtests.gpu_check import (
    buckets,
    compiled,
    fit,
    gates,
    kernels,
    machine,
    model_gates,
    models,
    sweep,
    traces,
)
from vimserve.loadtests.gpu_check.gates import Gate, short
from vimserve.loadtests.gpu_check.model_gates import GOLDEN, left_out
from vimserve.loadtests.gpu_check.report import GATES, Report
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row, Section, Stage
from vimserve.loadtests.gpu_check.summary import summary
from vimserve.loadtests.gpu_check.supervise import run_stages

__all__ = ["GOLDEN", "NO_DEVICE", "left_out", "run", "summary"]

PACKAGE = __name__.rpartition(".")[0]
NO_DEVICE = "torch finds no CUDA device on this machine"
DEVICE_S = 60.0  # within which a device must answer
GATES_SHARE = 0.2  # of the time after that
# Modules beside this one, each with a function of its own name that yields gates.
FURTHER_GATES = ("memory_gates", "error_gates")


def run(report: Report, golden: Path, seconds: float, *, measure: bool) -> str:
    """Run everything in ``seconds`` altogether.

    Args:
        report: takes the rows.
        golden: folder of the golden outputs.
        seconds: of the whole run.
        measure: whether to measure after a red gate too.

    Returns:
        How it ended: ``done``, or why it did not go on.
    """
    end = time.monotonic() + seconds
    run_stages([Stage(1, (Section("machine", machine.jobs),))], DEVICE_S, report)
    device = next((row for row in report.rows.get("machine", []) if "device" in row), None)
    if device is None:
        return NO_DEVICE
    report.head(machine=device)
    run_stages(gate_stages(golden), GATES_SHARE * (end - time.monotonic()), report)
    if report.red and not measure:
        return "a gate is red, so no speed is measured"
    run_stages(measuring_stages(report, golden), end - time.monotonic(), report)
    return "done"


def gate_stages(golden: Path) -> list[Stage]:
    """One golden case of each family and the kernels, side by side, then the further gates alone.

    Compiling the kernels takes most of the time, so all compile at once. Nothing is timed here.
    """
    every = [_section(short(dtype), partial(gates.kernel_jobs, dtype)) for dtype in gates.DTYPES]
    every += _golden_sections(golden, [*model_gates.FIRST, "ragged"])
    further = [
        Stage(1, (_section(name, partial(further_jobs, name)),))
        for name in FURTHER_GATES
        if importlib.util.find_spec(f"{PACKAGE}.{name}")
    ]
    return [Stage(4, tuple(every)), *further]


def measuring_stages(report: Report, golden: Path) -> list[Stage]:
    """What is measured, then the golden cases that were left."""
    cases = (*model_gates.VIM_CASES, *model_gates.DEIT_CASES, *model_gates.UPERNET_CASES)
    rest = [name for name in cases if name not in model_gates.FIRST]
    sections: list[tuple[float, str, Callable[[], Iterable[Job]]]] = [
        (20, "sweep", sweep.jobs),
        (3, "fit", partial(fit.jobs, report)),
        (5, "kernels", partial(kernels.jobs, report)),
        (45, "models", partial(models.jobs, report)),
        (12, "buckets", buckets.jobs),
        (8, "traces", traces.jobs),
        (14, "compiled", compiled.jobs),
    ]
    stages = [Stage(share, (Section(name, jobs),)) for share, name, jobs in sections]
    return [*stages, Stage(8, tuple(_golden_sections(golden, rest)))]


def further_jobs(module: str) -> Iterator[Job]:
    """The job of a module of ``FURTHER_GATES``."""
    make: Callable[[], Iterable[Gate]] = getattr(
        importlib.import_module(f"{PACKAGE}.{module}"), module
    )

    def rows(clock: Clock) -> Iterator[Row]:  # noqa: ARG001
        return gates.rows_of(make())

    yield Job(module, rows)


def _golden_sections(golden: Path, names: Iterable[str]) -> list[Section]:
    return [_section(name, partial(model_gates.model_jobs, golden, name)) for name in names]


def _section(name: str, jobs: Callable[[], Iterable[Job]]) -> Section:
    return Section(f"{GATES} {name}", jobs)
