"""The report of an evaluation, in words and tables."""

from collections.abc import Sequence
from pathlib import Path

from vimserve.model.tables import markdown
from vimserve.server.commands.evaluate.bootstrap import CONFIDENCE
from vimserve.server.commands.evaluate.results import Evaluation, Outcome, told_figure

TITLES = {"classify": "classification", "segment": "segmentation", "detect": "detection"}
MOST_CLASSES = 200  # in the report; the file has them all
NAMED = 20
FEW = 30  # as a rule, so many are needed for a percentile bootstrap


def write(evaluation: Evaluation, folder: Path, plots: Sequence[str]) -> None:
    """Write ``report.md`` into ``folder``, with the ``plots`` of these names."""
    lines = [f"# Accuracy: {TITLES[evaluation.task]}", "", evaluation.advice(), ""]
    lines += table(evaluation)
    lines += [
        "",
        f"In percent; in brackets intervals that hold {CONFIDENCE:.0%} of what as many pictures, "
        "drawn from these again and again, have. Time: how long the device has run batches, over "
        "the number of pictures. Memory: of the costliest picture alone, above the weights, by the "
        "curve that is fitted to measured batches when a model is loaded.",
    ]
    for name in plots:
        lines += ["", f"![{Path(name).stem}]({name})"]
    lines += _expected(evaluation)
    if evaluation.protocol:
        lines += ["", "## Protocol", ""]
        lines += [f"- {name}: {text}" for name, text in evaluation.protocol.items()]
    lines += _left_out(evaluation.outcomes)
    lines += _classes(evaluation.outcomes)
    lines += ["", "## Where", ""]
    lines += markdown(["", ""], [[name, text] for name, text in evaluation.environment.items()])
    (folder / "report.md").write_text("\n".join(lines) + "\n")


def table(evaluation: Evaluation) -> list[str]:
    """A row for each model and size."""
    names = list(dict.fromkeys(name for one in evaluation.outcomes for name in one.rating.figures))
    header = ["model", "pixels", *names, "ms per picture", "MB", "pictures"]
    rows = [
        [
            one.model,
            one.resolution or "own",
            *(told_figure(one.rating.figures.get(name)) for name in names),
            f"{one.image_ms:.1f}",
            f"{one.peak_bytes / 1e6:.1f}",
            str(one.images),
        ]
        for one in evaluation.outcomes
    ]
    return markdown(header, rows)


def _expected(evaluation: Evaluation) -> list[str]:
    """What was measured beside what was published."""
    rows = []
    for one in evaluation.outcomes:
        for name, published in one.expected.figures.items() if one.expected else ():
            figure = one.rating.figures.get(name)
            more = "–" if figure is None else f"{figure.value - published:+.1f}"
            source = one.expected.source if one.expected else ""
            rows.append([one.model, name, told_figure(figure), f"{published:.1f}", more, source])
    if not rows:
        return []
    header = ["model", "figure", "here", "published", "difference", "source"]
    return ["", "## Beside the published figures", "", *markdown(header, rows)]


def _left_out(outcomes: Sequence[Outcome]) -> list[str]:
    """Pictures without an answer, and whatever else a reader has to know."""
    lines = [f"- {note}" for one in outcomes for note in one.rating.notes]
    lines += [
        f"- {len(one.missing)} pictures are missing: {_some(one.missing)}"
        for one in outcomes
        if one.missing
    ]
    settings: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for one in outcomes:
        settings.setdefault(tuple(one.failed.items()), []).append(one.at)
    for failed, those in settings.items():
        reasons = [f"{name} ({reason})" for name, reason in failed]
        if reasons:
            lines.append(
                f"- {', '.join(those)}: without an answer, and not counted, are {len(reasons)} "
                f"pictures: {_some(reasons)}"
            )
    fewest = min(one.images for one in outcomes)
    if fewest < FEW:
        lines.append(
            f"- {fewest} pictures are few: their intervals are narrower than they should be."
        )
    lines = list(dict.fromkeys(lines))
    return ["", "## To be noted", "", *lines] if lines else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _classes(outcomes: Sequence[Outcome]) -> list[str]:
    names = list(dict.fromkeys(name for one in outcomes for name in one.rating.classes))
    if not 0 < len(names) <= MOST_CLASSES:
        return []
    rows = [[name, *(_share(one.rating.classes.get(name)) for one in outcomes)] for name in names]
    title = f"## {outcomes[0].rating.per_class} of each class"
    return ["", title, "", *markdown(["class", *(one.at for one in outcomes)], rows)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
