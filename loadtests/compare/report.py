"""The report of a comparison, in words and tables."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vimserve.loadtests.compare.results import Results, Served
from vimserve.model.bench import Measurement

PAPER_SIZE = 1248
PAPER_SPEED = 2.8
PAPER_MEMORY = 0.868
TITLES: dict[str, str] = {"classify": "classification", "segment": "segmentation"}


def exponent(measured: Sequence[Measurement]) -> float:
    """The power of the number of tokens by which the time of one image grows.

    It is the slope of the straight line through the logarithms of both.

    Raises:
        ValueError: for fewer than two sizes.
    """
    if len({m.tokens for m in measured}) < 2:
        raise ValueError("an exponent needs two sizes at least")
    slope, _ = np.polyfit(
        [math.log(m.tokens) for m in measured], [math.log(m.median_ms) for m in measured], 1
    )
    return float(slope)


def speed_ratio(results: Results, vim: str, other: str, size: int) -> float | None:
    """How many times faster Vim is on one image; None if either was not measured."""
    ours, theirs = results.alone(vim, size), results.alone(other, size)
    return theirs.median_ms / ours.median_ms if ours and theirs else None


def memory_saved(results: Results, vim: str, other: str, size: int) -> float | None:
    """The share of the other's memory that Vim does without; None if either was not measured."""
    ours, theirs = results.alone(vim, size), results.alone(other, size)
    if not ours or not theirs or not theirs.peak_above_weights_bytes:
        return None
    return 1 - ours.peak_above_weights_bytes / theirs.peak_above_weights_bytes


def write(results: Results, folder: Path, plots: Sequence[str]) -> None:
    """Write ``report.md`` into ``folder``, with the ``plots`` of these names."""
    vim, *others = results.models
    lines = [f"# Vim against DeiT: {TITLES[results.task]}", ""]
    if results.partial:
        lines += ["**Partial: the run did not come to its end.**", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in results.environment.items()]
    if results.task == "classify":
        lines += ["", *_claims(results, vim, others)]
    lines += ["", "## One image, the bare model", ""]
    if results.task == "segment":
        lines += ["From pixels to a class for each: backbone, head, upsampling and arg max.", ""]
    lines += [
        "Time: median of repeated forward passes, each model in a process of its own. Memory: peak",
        "of the first pass above the weights (on a CPU the growth of the resident set).",
        "",
        *_ratios(results, vim, others),
        "",
        "How the time grows: it is proportional to this power of the number of tokens.",
        "",
        *_exponents(results),
        "",
        "## Over HTTP",
        "",
        "Locust, closed loop, every answer checked. `busy` is the device's share of the time.",
        "Stages are means per request in milliseconds.",
        "",
        *_served(results.served),
    ]
    lines += [line for plot in plots for line in ("", f"![{plot}]({plot})")]
    (folder / "report.md").write_text("\n".join(lines) + "\n")


def _claims(results: Results, vim: str, others: Sequence[str]) -> list[str]:
    lines = [
        f"The paper (arXiv 2401.09417, figure 1) has Vim-Ti {PAPER_SPEED} times faster than "
        f"DeiT-Ti at {PAPER_SIZE}×{PAPER_SIZE}, with {PAPER_MEMORY:.1%} less GPU memory: batch "
        "inference on an A100 in half precision, DeiT with its attention scores written out.",
        "",
        "| here | times faster | less memory |",
        "| --- | --- | --- |",
    ]
    for other in others:
        speed = speed_ratio(results, vim, other, PAPER_SIZE)
        memory = memory_saved(results, vim, other, PAPER_SIZE)
        lines.append(
            f"| {vim} against {other}, one image of {PAPER_SIZE} | "
            f"{_judged(speed, PAPER_SPEED, '{:.2f}')} | {_judged(memory, PAPER_MEMORY, '{:.1%}')} |"
        )
    return lines


def _judged(value: float | None, claim: float, form: str) -> str:
    if value is None:
        return "not measured"
    verdict = "reaches" if value >= claim else "does not reach"
    return f"{form.format(value)} ({verdict} the paper's {form.format(claim)})"


def _ratios(results: Results, vim: str, others: Sequence[str]) -> list[str]:
    header = ["pixels", "tokens"]
    for model in results.models:
        header += [f"{model} ms", f"{model} MB"]
    for other in others:
        header += [f"times faster than {other}", f"less memory than {other}"]
    rows = []
    for size in results.sizes:
        measured = [results.alone(model, size) for model in results.models]
        if not any(measured):
            continue
        row = [str(size), str(next(m.tokens for m in measured if m))]
        for m in measured:
            row += [
                _cell(m.median_ms if m else None, "{:.1f}"),
                _cell(m.peak_above_weights_bytes / 1e6 if m else None, "{:.1f}"),
            ]
        for other in others:
            speed, memory = (
                speed_ratio(results, vim, other, size), memory_saved(results, vim, other, size),
            )  # fmt: skip
            row += [_cell(speed, "{:.2f}"), _cell(memory, "{:.1%}")]
        rows.append(row)
    return _table(header, rows)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _exponents(results: Results) -> list[str]:
    rows = []
    for model in results.models:
        measured = [m for size in results.sizes if (m := results.alone(model, size))]
        if len(measured) >= 2:
            sizes = ", ".join(str(m.size) for m in measured)
            rows.append([model, f"{exponent(measured):.2f}", sizes])
            if len(measured) >= 3:
                largest = measured[-2:]
                sizes = ", ".join(str(m.size) for m in largest)
                rows.append([model, f"{exponent(largest):.2f}", sizes])
    return _table(["model", "exponent", "from pixels"], rows)


def _served(served: Sequence[Served]) -> list[str]:
    columns: list[tuple[str, Callable[[Served], str]]] = [
        ("model", lambda s: s.model),
        ("pixels", lambda s: str(s.size)),
        ("clients", lambda s: str(s.clients)),
        ("answers", lambda s: str(s.requests)),
        ("refused", lambda s: str(s.refused)),
        ("wrong", lambda s: str(s.wrong)),
        ("images/s", lambda s: _speed(s, f"{s.images_per_s:.2f}")),
        ("p50 ms", lambda s: _speed(s, f"{s.p50_ms:.0f}")),
        ("p95 ms", lambda s: _speed(s, f"{s.p95_ms:.0f}")),
        ("p99 ms", lambda s: _speed(s, f"{s.p99_ms:.0f}")),
        ("images a batch", lambda s: f"{s.images_per_batch:.1f}"),
        ("busy", lambda s: f"{s.busy:.0%}"),
        ("MB a batch", lambda s: f"{s.peak_memory_bytes / 1e6:.0f}"),
        ("decode / queue / inference / postprocess", lambda s: " / ".join(
            f"{ms:.1f}" for ms in s.stage_ms.values()
        )),
    ]  # fmt: skip
    return _table([name for name, _ in columns], [[cell(s) for _, cell in columns] for s in served])


def _speed(served: Served, text: str) -> str:
    """No speed is told of a server that gave wrong answers."""
    return "–" if served.wrong else text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
