"""Results that nobody measured."""

from vimserve.loadtests.compare.disturbance import Disturbance
from vimserve.loadtests.compare.results import Results, Round, Served, Turn, describe

QUIET = Disturbance(20.0, 0.0, 0.0)
BUSY = Disturbance(20.0, 0.5, 0.0)


def served(wrong=0, latency_ms=240.0):
    stages = {"decode": 1.0, "queue": 2.0, "inference": 3.0, "postprocess": 0.5}
    return Served([latency_ms] * 4, 0, wrong, stages, 1.5, 0.97, 2e8)


def round_of(case, times_ms, disturbance=QUIET, wrong=0):
    """A round in which each model takes so long for an image."""
    turns = [
        Turn(model, ms, 4, 4e-3 * ms, served(wrong, ms) if case.clients else None)
        for model, ms in times_ms.items()
    ]
    return Round(case, turns, sum(times_ms.values()) / 1e3, disturbance)


def results_of(models, cases, task="classify"):
    return Results(describe("cpu", 2), task, list(models), list(cases), partial=False)


def ratios(case, values, disturbance=QUIET):
    """Rounds in which ``vim`` is so many times faster than ``deit``."""
    return [round_of(case, {"vim": 100.0, "deit": 100.0 * value}, disturbance) for value in values]
