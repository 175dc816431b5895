"""The report of a comparison, in words and tables."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vimserve.loadtests.compare import claim, detector, disturbance, intervals
from vimserve.loadtests.compare.intervals import Estimate
from vimserve.loadtests.compare.results import Case, Results
from vimserve.model.tables import markdown

TITLES: dict[str, str] = {
    "classify": "classification",
    "segment": "segmentation",
    "detect": "detection",
}
FROM_TO: dict[str, list[str]] = {
    "segment": ["From pixels to a class for each: backbone, head, upsampling and arg max.", ""],
    "detect": ["From pixels to boxes, classes and masks: backbone, pyramid and all heads.", ""],
}
NOT_MEASURED = "not measured"


def exponent(times: Sequence[tuple[int, float]]) -> float:
    """The power of the number of tokens by which the time of one image grows.

    It is the slope of the straight line through the logarithms of the tokens and the times.

    Raises:
        ValueError: for fewer than two numbers of tokens.
    """
    if len({tokens for tokens, _ in times}) < 2:
        raise ValueError("an exponent needs two sizes at least")
    tokens, ms = np.log(np.transpose(times))
    slope, _ = np.polyfit(tokens, ms, 1)
    return float(slope)


def memory_saved(results: Results, vim: str, other: str, case: Case) -> float | None:
    """The share of the other's memory that Vim does without; None if either was not measured."""
    ours, theirs = results.first_pass(vim, case), results.first_pass(other, case)
    if not ours or not theirs or not theirs.peak_bytes:
        return None
    return 1 - ours.peak_bytes / theirs.peak_bytes


def tell(figure: Estimate | None, form: str) -> str:
    """A figure with its interval, or why it is no result."""
    if figure is None:
        return NOT_MEASURED
    low, high = form.format(figure.low), form.format(figure.high)
    if figure.doubt:
        return f"{figure.doubt}: {low if low == high else f'{low} to {high}'}, not a result"
    if figure.count == 1:  # measured once, as memory is
        return form.format(figure.median)
    return f"{form.format(figure.median)} ({low} to {high})"


def write(results: Results, folder: Path, plots: Sequence[str]) -> None:
    """Write ``report.md`` into ``folder``, with the ``plots`` of these names."""
    lines = [f"# Vim against {claim.opponents(results.models[1:])}: {TITLES[results.task]}", ""]
    if results.partial:
        lines += ["**Partial: the run did not come to its end.**", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in results.environment.items()]
    lines += ["", "## How far to believe it", "", *_belief(results)]
    if results.task == "classify":
        lines += ["", "## The paper's claim", "", *_claims(results)]
    lines += [
        "",
        f"## How many times faster {results.models[0]} is",
        "",
        *ratios(results),
        "",
        "## One image, the bare model",
        "",
    ]
    lines += FROM_TO.get(results.task, [])
    lines += [
        "Time: median over the rounds. Memory: peak of a process's first pass above the weights",
        "(on a CPU the growth of the resident set).",
        "",
        *_bare(results, [case for case in results.cases if not case.backbone]),
        "",
    ]
    if backbones := [case for case in results.cases if case.backbone]:
        lines += [*detector.explained(results), *_bare(results, backbones), ""]
    lines += [
        "How the time grows: it is proportional to this power of the number of tokens.",
        "",
        *_exponents(results, backbones=bool(backbones)),
        "",
        "## Over HTTP",
        "",
        "Locust, closed loop, every answer checked, all models in one server. `busy` is the",
        "device's share of the time. Stages are means per request in milliseconds. Percentiles are",
        "of all answers in the rounds that count.",
        "",
        *_served(results),
    ]
    lines += [line for plot in plots for line in ("", f"![{plot}]({plot})")]
    (folder / "report.md").write_text("\n".join(lines) + "\n")


def ratios(results: Results) -> list[str]:
    """A table of how many times faster the first model is, bare and over HTTP."""
    others = results.models[1:]
    rows = [
        [
            str(size),
            other,
            *(_told_ratio(results, way.at(size), other) for way in results.ways),
        ]
        for size in results.sizes
        for other in others
    ]
    return markdown(["pixels", "than", *(way.way for way in results.ways)], rows)


def _told_ratio(results: Results, case: Case, other: str) -> str:
    vim = results.models[0]
    if results.wrong(case, vim) or results.wrong(case, other):
        return "wrong answers"
    return tell(results.ratio(case, vim, other), "{:.2f}")


def _belief(results: Results) -> list[str]:
    figures = [
        results.ratio(case, results.models[0], other)
        for case in results.cases
        for other in results.models[1:]
    ]
    sound = sum(figure is not None and not figure.doubt for figure in figures)
    missing = [str(case) for case in results.cases if not results.rounds_of(case)]
    lines = [
        f"**{sound} of {len(figures)} ratios are results.** The models take turns, one at a time,",
        "in rounds. A ratio is the median of those of the rounds, with an interval that holds it",
        f"with {intervals.CONFIDENCE:.0%} confidence (order statistics). It is a result if there "
        f"are {intervals.LEAST_ROUNDS}",
        "undisturbed rounds at least and the interval is not wider than "
        f"{intervals.WIDEST:.0%} on either side.",
    ]
    if missing:
        lines += ["", f"Not measured before the end: {'; '.join(missing)}."]
    if not results.rounds:
        return lines
    disturbed = results.disturbed()
    seen = [one.disturbance for one in results.rounds]
    best_ms = min(one.product_ms for one in seen)
    lines += [
        "",
        f"{sum(disturbed)} of {len(disturbed)} rounds were disturbed and do not count: other "
        f"programs took more than {disturbance.OTHERS:.1%} of all processors' time,",
        f"the hypervisor more than {disturbance.STEAL:.0%}, or a fixed matrix product just before "
        f"the round more than {disturbance.PRODUCT} times its best ({best_ms:.1f} ms).",
        "",
        *markdown(
            ["over all rounds", "median", "worst"],
            [
                _spread("fixed product, of its best", [one.product_ms / best_ms for one in seen]),
                _spread("other programs, %", [1e2 * one.others for one in seen]),
                _spread("hypervisor, %", [1e2 * one.steal for one in seen]),
            ],
        ),
    ]
    return lines


def _spread(name: str, values: Sequence[float]) -> list[str]:
    return [name, f"{statistics.median(values):.2f}", f"{max(values):.2f}"]


def _claims(results: Results) -> list[str]:
    vim, *others = results.models
    others = [model for model in others if claim.concerns(model)]
    case = Case(claim.SIZE)
    rows = []
    for other in others:
        saved = memory_saved(results, vim, other, case)
        memory = None if saved is None else Estimate(saved, saved, saved, 1)
        rows.append(
            [
                f"{vim} against {other}, one image of {claim.SIZE}",
                _judged(results.ratio(case, vim, other), "{:.2f}", claim.SPEED),
                _judged(memory, "{:.1%}", claim.MEMORY),
            ]
        )
    return [claim.CLAIM, "", *markdown(["here", "times faster", "less memory"], rows)]


def _judged(figure: Estimate | None, form: str, claimed: float) -> str:
    verdict = claim.verdict(figure, claimed)
    return tell(figure, form) + (verdict and f", {verdict} the paper's {form.format(claimed)}")


def _bare(results: Results, cases: Sequence[Case]) -> list[str]:
    vim, *others = results.models
    header = ["pixels", "images", "tokens"]
    for model in results.models:
        header += [f"{model} ms", f"{model} MB"]
    header += [f"less memory than {other}" for other in others]
    rows = []
    for case in sorted((case for case in cases if case.batch), key=_by_size):
        passes = [results.first_pass(model, case) for model in results.models]
        if not (known := [one for one in passes if one]):
            continue
        row = [str(case.size), str(case.batch), str(known[0].tokens)]
        for model, one in zip(results.models, passes, strict=True):
            time = results.image_ms(case, model)
            row += [
                _marked(time, time.median * case.batch if time else 0),
                f"{one.peak_bytes / 1e6:.1f}" if one else "–",
            ]
        saved = (memory_saved(results, vim, other, case) for other in others)
        rows.append(row + ["–" if share is None else f"{share:.1%}" for share in saved])
    return markdown(header, rows)


def _by_size(case: Case) -> tuple[int, int]:
    return case.size, case.images


def _marked(figure: Estimate | None, value: float) -> str:
    if figure is None:
        return "–"
    return f"{value:.1f}" + (f" ({figure.doubt})" if figure.doubt else "")


def _exponents(results: Results, *, backbones: bool) -> list[str]:
    """Those of the backbones alone, if these were measured, or of the models."""
    rows = []
    for model in results.models:
        known = [
            (size, one.tokens, time.median)
            for size in results.sizes
            if (one := results.first_pass(model, Case(size, backbone=backbones)))
            and (time := results.image_ms(one.case, model))
            and not time.doubt
        ]
        parts = [known] if len(known) == 2 else [known, known[-2:]]
        for part in parts:
            if len(part) > 1:
                power = exponent([(tokens, ms) for _, tokens, ms in part])
                sizes = ", ".join(str(size) for size, *_ in part)
                rows.append([model, f"{power:.2f}", sizes])
    return markdown(["model", "exponent", "from pixels"], rows)


def _served(results: Results) -> list[str]:
    header = [
        "model", "pixels", "clients", "rounds", "answers", "refused", "wrong", "images/s", "p50 ms",
        "p95 ms", "p99 ms", "images a batch", "busy", "MB a batch",
        "decode / queue / inference / postprocess",
    ]  # fmt: skip
    rows = [
        _served_row(results, case, model)
        for case in sorted((case for case in results.cases if case.clients), key=_by_size)
        if results.rounds_of(case)
        for model in results.models
    ]
    return markdown(header, rows)


def _served_row(results: Results, case: Case, model: str) -> list[str]:
    turns = [(turn.count, turn.served) for turn in results.turns(case, model) if turn.served]
    answers = sum(count for count, _ in turns)

    def mean(figures: Sequence[float]) -> float:
        """Over the answers of all turns."""
        return float(np.average(figures, weights=[count for count, _ in turns]))

    time = results.image_ms(case, model)
    speeds = ["–"] * 4  # nothing is told of the speed of a server that gave wrong answers
    if time:
        latencies = np.percentile(results.latencies_ms(case, model), (50, 95, 99))
        speeds = [f"{1e3 / time.median:.2f}", *(f"{ms:.0f}" for ms in latencies)]
    stages = {
        stage: mean([one.stage_ms[stage] for _, one in turns]) for stage in turns[0][1].stage_ms
    }
    return [
        model,
        str(case.size),
        str(case.clients),
        f"{len(turns)} ({time.doubt})" if time and time.doubt else str(len(turns)),
        str(answers),
        str(sum(one.refused for _, one in turns)),
        str(results.wrong(case, model)),
        *speeds,
        f"{mean([one.images_per_batch for _, one in turns]):.1f}",
        f"{mean([one.busy for _, one in turns]):.0%}",
        f"{mean([one.peak_memory_bytes for _, one in turns]) / 1e6:.0f}",
        " / ".join(f"{ms:.1f}" for ms in stages.values()),
    ]
