"""The plot of an evaluation: accuracy against time and memory; it needs the extra plots.

Bars are intervals. Marks are joined in the order of the sizes, which stand beside them.
"""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from vimserve.model.plot_styles import style
from vimserve.server.commands.evaluate.results import Evaluation, Outcome

NAME = "accuracy.png"


def draw(evaluation: Evaluation, folder: Path) -> list[str]:
    """Draw the plot into ``folder``, and return the names of the files."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    times, memories = figure.subplots(1, 2, sharey=True)
    _panel(times, evaluation, lambda one: one.image_ms, "ms per picture")
    _panel(memories, evaluation, lambda one: one.peak_bytes / 1e6, "MB above the weights")
    times.set_ylabel(f"{evaluation.measure}, %")
    memories.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(folder / NAME, dpi=130)
    return [NAME]


def _panel(
    axes: Axes, evaluation: Evaluation, cost: Callable[[Outcome], float], label: str
) -> None:
    models = list(dict.fromkeys(one.model for one in evaluation.outcomes))
    for index, model in enumerate(models):
        those = [one for one in evaluation.outcomes if one.model == model]
        x, y = [cost(one) for one in those], [one.main.value for one in those]
        bars = [
            [max(one.main.value - _or(one.main.low, one), 0) for one in those],
            [max(_or(one.main.high, one) - one.main.value, 0) for one in those],
        ]
        axes.errorbar(x, y, bars, capsize=3, elinewidth=0.9, label=model, **style(index))
        for one, at, height in zip(those, x, y, strict=True):
            axes.annotate(
                one.resolution or "own",
                (at, height),
                xytext=(5, 5),
                textcoords="offset points",
                color=style(index)["color"],
            )
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel(label)
    axes.grid(which="both", color="#dddddd", linewidth=0.6)
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")


def _or(end: float | None, one: Outcome) -> float:
    return one.main.value if end is None else end
