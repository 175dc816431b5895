"""The report of a trained classifier."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vimserve.model.heads import report
from vimserve.model.heads.report import Section
from vimserve.model.tables import markdown
from vimserve.server.commands.evaluate import report as evaluation_report
from vimserve.server.commands.evaluate.bootstrap import CONFIDENCE
from vimserve.server.commands.evaluate.command import NO_PLOTS
from vimserve.server.commands.evaluate.results import Evaluation, Outcome, told_figure
from vimserve.server.commands.evaluate.samples import Record
from vimserve.server.commands.train.attempt import Attempt, Data
from vimserve.server.commands.train.circumstances import circumstances
from vimserve.server.commands.train.held_out import confusion_matrix
from vimserve.server.commands.train.request import Request
from vimserve.server.config import Config

WORST = 20
TWINS = 50
MOST_CLASSES = 200
CURVE, CONFUSION, ERRORS, SIZES = (
    "learning-curve.png", "confusion.png", "worst-errors.png", "accuracy.png"
)  # fmt: skip

Curve = Sequence[tuple[int, float, float]]


def write_report(
    config: Config,
    request: Request,
    data: Data,
    attempts: Sequence[Attempt],
    best: Attempt,
    curve: Curve,
    worst: Sequence[tuple[Record, Tensor]],
    facts: Mapping[str, str],
) -> Path:
    """Write the report and its pictures, and return its file.

    Args:
        config: device and precision.
        request: what was asked for.
        data: the pictures.
        attempts: the best probe at each resolution.
        best: the one that was saved.
        curve: as ``heads.probe.learning_curve``.
        worst: the worst errors, each with the pixels that the model saw, uint8 ``[3, H, W]``.
        facts: what else is to be told of the run.
    """
    folder = request.report
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _evaluation(config, request, attempts)
    drawn = _draw(folder, data, best, curve, worst, sizes)
    rows = [
        [one.sight.size, one.readout, f"{one.choice.penalty:g}", f"{one.choice.accuracy:.1%}",
         told_figure(one.rating.figures["top-1"]), f"{one.balanced:.1f}"]
        for one in attempts
    ]  # fmt: skip
    header = ["pixels", "reads", "penalty", "cross-validated", "held out, %", "balanced, %"]
    how = circumstances(config, request, len(data.train), len(data.held))
    return report.write(
        folder,
        f"A classifier of {len(data.labels)} classes on {request.backbone}",
        best.told(),
        [
            Section(
                "Probes",
                [
                    *markdown(header, rows),
                    "",
                    "The best at each size, of what it may read and of the penalties. It is chosen "
                    "by cross-validation among the pictures to train on; those that were held out "
                    f"have no part in it. In brackets intervals that hold {CONFIDENCE:.0%} of what "
                    "as many pictures, drawn from these again and again, have. Balanced: the mean "
                    "over the classes.",
                ],
            ),
            Section("Which size pays", _of_sizes(sizes, drawn)),
            Section("To be noted", report.bullets(data.remarks)),
            Section("More pictures?", _shown(drawn, CURVE, _curve_in_words(curve))),
            Section("What is taken for what", _shown(drawn, CONFUSION, drawn.get(CONFUSION, ""))),
            Section("Worst errors", _worst(drawn, data, [record for record, _ in worst])),
            Section("Classes", _classes(data, best)),
            Section(
                "Nearly the same",
                report.bullets([f"{one} and {other}" for one, other in data.twins[:TWINS]]),
            ),
            Section("How", report.pairs({**how, **facts})),
        ],
    )


def _evaluation(config: Config, request: Request, attempts: Sequence[Attempt]) -> Evaluation | None:
    outcomes = [
        Outcome(request.output.stem, one.sight.size, one.rating, len(one.records),
                one.cost.ms, one.cost.peak_bytes)
        for one in attempts
        if one.cost
    ]  # fmt: skip
    if not outcomes:
        return None
    return Evaluation("classify", {"device": config.device}, outcomes)


def _draw(
    folder: Path,
    data: Data,
    best: Attempt,
    curve: Curve,
    worst: Sequence[tuple[Record, Tensor]],
    sizes: Evaluation | None,
) -> dict[str, str]:
    """Draw what there is to be drawn: the names of the files, each with what is left out."""
    try:
        from vimserve.model.heads import plots
        from vimserve.server.commands.evaluate.plots import draw
    except ImportError:
        print(f"vimserve: {NO_PLOTS}", file=sys.stderr)
        return {}
    drawn = {CURVE: ""}
    counts, trained, held = zip(*curve, strict=True)
    plots.learning_curve(
        folder / CURVE, counts, [100 * one for one in trained], [100 * one for one in held]
    )
    matrix = confusion_matrix(best.records, len(data.labels))
    drawn[CONFUSION] = plots.confusion(folder / CONFUSION, matrix, data.labels)
    if worst:
        tiles = [
            (
                Image.fromarray(pixels.permute(1, 2, 0).numpy()),
                f"{plots.legible(data.labels[one['class']], one['class'])}\n"
                f"{one['sure']:.0%} {plots.legible(data.labels[one['found']], one['found'])}",
            )
            for one, pixels in worst
        ]
        plots.contact_sheet(folder / ERRORS, tiles)
        drawn[ERRORS] = ""
    if sizes:
        draw(sizes, folder)
        drawn[SIZES] = ""
    return drawn


def _of_sizes(sizes: Evaluation | None, drawn: Mapping[str, str]) -> list[str]:
    if sizes is None:
        return []
    return [
        sizes.advice(),
        "",
        *evaluation_report.table(sizes),
        "",
        "Time and memory of a forward pass with one picture, memory above the weights. The file is "
        "that of the size that does best in cross-validation.",
        "",
        *_shown(drawn, SIZES),
    ]


def _shown(drawn: Mapping[str, str], name: str, about: str = "") -> list[str]:
    lines = [*report.picture(name), ""] if name in drawn else []
    return [*lines, about] if about else lines[:1]


def _curve_in_words(curve: Curve) -> str:
    points = [f"{held:.1%} of {count}" for count, _, held in curve]
    return f"Right about the held-out pictures, by how many were trained on: {', '.join(points)}."


def _worst(drawn: Mapping[str, str], data: Data, records: Sequence[Record]) -> list[str]:
    if not records:
        return ["There are none."]
    table = markdown(
        ["picture", "is", "was taken for", "probability"],
        [
            [_cell(one["image"]), _cell(data.labels[one["class"]]),
             _cell(data.labels[one["found"]]), f"{one['sure']:.0%}"]
            for one in records
        ],
    )  # fmt: skip
    return [*_shown(drawn, ERRORS, "The surest first."), "", *table]


def _classes(data: Data, best: Attempt) -> list[str]:
    if len(data.labels) > MOST_CLASSES:
        return []
    trained, tested = (
        np.bincount(data.classes[rows].numpy(), minlength=len(data.labels))
        for rows in (data.train, data.held)
    )
    rows = [
        [
            str(index),
            _cell(label),
            str(trained[index]),
            str(tested[index]),
            f"{best.rating.classes[label]:.1f}",
        ]
        for index, label in enumerate(data.labels)
    ]
    return markdown(["", "class", "trained on", "held out", "right, %"], rows)


def _cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")
