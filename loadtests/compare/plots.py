"""The plots of a comparison, which can also be read without colours.

Bars are the intervals of the medians. A hollow mark is no result; its bar is what was seen.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from vimserve.loadtests.compare import claim
from vimserve.loadtests.compare.intervals import Estimate
from vimserve.loadtests.compare.report import memory_saved
from vimserve.loadtests.compare.results import Case, Results
from vimserve.model.plot_styles import style

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

ASIDE = 0.008  # of the axis, from one line to the next
Points = Mapping[int, Estimate]  # by the image's side in pixels
Panels = Mapping[str, Mapping[str, Points]]  # by title, then by the line's name


def draw(results: Results, folder: Path) -> list[str]:
    """Draw whatever was measured into ``folder``.

    Returns:
        The names of the files.
    """
    drawings = {
        "ratio.png": _ratio,
        "speed.png": _speed,
        "memory.png": _memory,
        "latency.png": _latency,
    }
    drawn = []
    for name, drawing in drawings.items():
        if figure := drawing(results):
            figure.savefig(folder / name, dpi=130)
            plt.close(figure)
            drawn.append(name)
    return drawn


def _ratio(results: Results) -> Figure | None:
    """How many times faster the first model is than each other, bare and over HTTP."""
    vim, *others = results.models

    def points(other: str, way: Case) -> Points:
        return _points(results, lambda size: results.ratio(way.at(size), vim, other))

    panels = {
        f"{vim} against {other}": {way.way: points(other, way) for way in results.ways}
        for other in others
    }
    figure = _figure(panels, "times faster")
    for axes in figure.axes if figure else ():
        axes.axhline(1, color="black", linewidth=0.8)
    return figure


def _speed(results: Results) -> Figure | None:
    """Images per second of the bare models."""

    def speed(model: str, size: int) -> Estimate | None:
        if (time := results.image_ms(Case(size), model)) is None:
            return None
        return Estimate(1e3 / time.median, 1e3 / time.high, 1e3 / time.low, time.count, time.doubt)

    vim, *others = results.models
    ratios = {other: results.ratio(Case(claim.SIZE), vim, other) for other in others}
    notes = [
        f"{_times(ratio.median, 'faster', 'slower')} than {other}"
        for other, ratio in ratios.items()
        if ratio and not ratio.doubt
    ]
    title = "One image at a time, the bare model"
    lines = {model: _points(results, partial(speed, model)) for model in results.models}
    return _figure({title: lines}, "images per second", vim, notes)


def _memory(results: Results) -> Figure | None:
    """Peaks of the bare models' first passes."""

    def peak(model: str, size: int) -> Estimate | None:
        if (one := results.first_pass(model, Case(size))) is None:
            return None
        megabytes = one.peak_bytes / 1e6
        return Estimate(megabytes, megabytes, megabytes, 1)

    vim, *others = results.models
    saved = {other: memory_saved(results, vim, other, Case(claim.SIZE)) for other in others}
    notes = [
        f"{_times(1 / (1 - share), 'less memory', 'more memory')} than {other}"
        for other, share in saved.items()
        if share is not None and share < 1
    ]
    title = "Peak memory of one image above the weights"
    lines = {model: _points(results, partial(peak, model)) for model in results.models}
    return _figure({title: lines}, "MB", vim, notes)


def _latency(results: Results) -> Figure | None:
    """Median latencies over HTTP, with a shade up to the 99th percentile."""

    def points(model: str, way: Case) -> Points:
        return _points(results, lambda size: results.p50_ms(way.at(size), model))

    ways = {f"{way.way} at once": way for way in results.ways if way.clients}
    panels = {
        title: {model: points(model, way) for model in results.models}
        for title, way in ways.items()
    }
    figure = _figure(panels, "latency over HTTP, ms (p50 to p99)")
    for axes in figure.axes if figure else ():
        title = axes.get_title()
        for index, (model, found) in enumerate(panels[title].items()):
            latencies = [results.latencies_ms(ways[title].at(size), model) for size in found]
            axes.fill_between(
                list(found),
                [point.median for point in found.values()],
                [float(np.percentile(ms, 99)) for ms in latencies],
                color=style(index)["color"],
                alpha=0.15,
                linewidth=0,
            )
    return figure


def _points(results: Results, figure: Callable[[int], Estimate | None]) -> Points:
    return {size: found for size in results.sizes if (found := figure(size))}


def _times(ratio: float, more: str, less: str) -> str:
    """What a ratio is in words: how many times ``more``, or ``less``."""
    return f"{ratio:.1f}× {more}" if ratio >= 1 else f"{1 / ratio:.1f}× {less}"


def _figure(
    panels: Panels, label: str, first: str = "", notes: Sequence[str] = ()
) -> Figure | None:
    """A panel with lines for each title, over the sizes; None if there are no points at all.

    The ``notes`` say how the ``first`` model does at the paper's size.
    """
    shown = {title: lines for title, lines in panels.items() if any(lines.values())}
    if not shown:
        return None
    figure, grid = plt.subplots(
        1, len(shown), figsize=(4.6 * len(shown) + 2.9, 4.6), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for axes, (title, lines) in zip(grid[0], shown.items(), strict=True):
        sizes = sorted({size for points in lines.values() for size in points})
        for index, (name, points) in enumerate(lines.items()):
            # A little to the side, so that bars do not cover each other.
            shift = ASIDE * (sizes[-1] - sizes[0]) * (index - (len(lines) - 1) / 2)
            _line(axes, name, points, shift, style(index))
        _scales(axes, sizes)
        axes.set_title(title)
    grid[0][0].set_ylabel(label)
    grid[0][-1].legend(
        loc="upper left", bbox_to_anchor=(1, 1), alignment="left",
        title="\n".join([f"{first} at {claim.SIZE} pixels:", *notes]) if notes else None,
    )  # fmt: skip
    return figure


def _line(axes: Axes, name: str, points: Points, shift: float, style: dict[str, Any]) -> None:
    """Results as filled marks, others as hollow ones, with bars."""
    axes.plot([], [], label=name, **style)
    x = [size + shift for size in points]
    axes.plot(x, [point.median for point in points.values()], **{**style, "marker": None})
    for place, point in zip(x, points.values(), strict=True):
        bar = [[point.median - point.low], [point.high - point.median]]
        axes.errorbar(
            place, point.median, bar, capsize=3, color=style["color"], marker=style["marker"],
            fillstyle="none" if point.doubt else "full",
        )  # fmt: skip


def _scales(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes], rotation=0)
    axes.set_xlabel("side of the image, pixels")
    axes.grid(which="both", color="#dddddd", linewidth=0.6)
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")
