"""The plots of a comparison, which can also be read without colours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from vimserve.loadtests.compare.report import PAPER_SIZE
from vimserve.loadtests.compare.results import Results, Served
from vimserve.model.bench import Measurement

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

STYLES: list[dict[str, Any]] = [
    {"color": "#0b3c6f", "linestyle": "-", "marker": "o"},
    {"color": "#b5560c", "linestyle": "--", "marker": "s"},
    {"color": "#6b6b6b", "linestyle": ":", "marker": "^"},
    {"color": "#2f7d32", "linestyle": "-.", "marker": "D"},
    {"color": "#7b3f9e", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
]
Points = list[tuple[int, float]]


def draw(results: Results, folder: Path) -> list[str]:
    """Draw whatever was measured into ``folder``.

    Returns:
        The names of the files.
    """
    drawn = []
    speed = _series(results, lambda m: m.images_per_second)
    memory = _series(results, lambda m: m.peak_above_weights_bytes / 1e6)
    if any(speed.values()):
        title = "One image at a time, the bare model"
        _figure(folder / "speed.png", title, "images per second", speed, ("faster", "slower"))
        title = "Peak memory of one image above the weights"
        _figure(folder / "memory.png", title, "MB", memory, ("more memory", "less memory"))
        drawn += ["speed.png", "memory.png"]
    right = [s for s in results.served if not s.wrong]
    if right:
        _latencies(results, right, folder / "latency.png")
        drawn.append("latency.png")
    return drawn


def _series(results: Results, value: Callable[[Measurement], float]) -> dict[str, Points]:
    return {
        model: [(size, value(m)) for size in results.sizes if (m := results.alone(model, size))]
        for model in results.models
    }


def _figure(
    file: Path, title: str, label: str, series: dict[str, Points], words: tuple[str, str]
) -> None:
    """One line per model; ``words`` say that the first model has more than another, and less."""
    figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for index, (model, points) in enumerate(series.items()):
        if points:
            axes.plot(*zip(*points, strict=True), label=model, **STYLES[index % len(STYLES)])
    _scales(axes, sorted({size for points in series.values() for size, _ in points}))
    axes.set(title=title, ylabel=label)
    (first, ours), *others = ((m, dict(points).get(PAPER_SIZE)) for m, points in series.items())
    notes = [
        f"{max(ours / theirs, theirs / ours):.1f}× {words[0] if ours > theirs else words[1]} "
        f"than {model}"
        for model, theirs in others
        if ours and theirs
    ]
    legend = "\n".join([f"{first} at {PAPER_SIZE} pixels:", *notes]) if notes else None
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=legend, alignment="left")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _latencies(results: Results, right: Sequence[Served], file: Path) -> None:
    clients = sorted({s.clients for s in right})
    figure, panels = plt.subplots(
        1, len(clients), figsize=(4.6 * len(clients) + 1, 4.6), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for axes, count in zip(panels[0], clients, strict=True):
        for index, model in enumerate(results.models):
            mine = (s for s in right if (s.model, s.clients) == (model, count))
            rows = sorted(mine, key=lambda s: s.size)
            if not rows:
                continue
            sizes = [s.size for s in rows]
            axes.plot(sizes, [s.p50_ms for s in rows], label=model, **STYLES[index % len(STYLES)])
            axes.fill_between(
                sizes, [s.p50_ms for s in rows], [s.p99_ms for s in rows],
                color=STYLES[index % len(STYLES)]["color"], alpha=0.15, linewidth=0,
            )  # fmt: skip
        _scales(axes, results.sizes)
        axes.set(title=f"{count} client{'s' if count > 1 else ''} at once")
    panels[0][0].set_ylabel("latency over HTTP, ms (p50 to p99)")
    panels[0][0].legend(loc="upper left")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _scales(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes], rotation=0)
    axes.set_xlabel("side of the image, pixels")
    axes.grid(which="both", color="#dddddd", linewidth=0.6)
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")
