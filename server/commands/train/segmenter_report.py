"""The report of a trained segmenter."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vimserve.model.heads import report
from vimserve.model.heads.report import Section
from vimserve.model.palette import Palette
from vimserve.model.tables import markdown
from vimserve.server.commands.evaluate.bootstrap import CONFIDENCE
from vimserve.server.commands.evaluate.command import NO_PLOTS
from vimserve.server.commands.evaluate.results import told_figure
from vimserve.server.commands.train.circumstances import circumstances
from vimserve.server.commands.train.fitted import Fitted, Pictures
from vimserve.server.commands.train.request import Request
from vimserve.server.config import Config

CURVE, WORST = "learning-curve.png", "worst-pictures.png"


def write_report(
    config: Config,
    request: Request,
    pictures: Pictures,
    palette: Palette,
    attempts: Sequence[Fitted],
    best: Fitted,
    notes: Sequence[str],
) -> Path:
    """Write the report and its pictures, and return its file.

    Args:
        config: device, precision and limits.
        request: what was asked for.
        pictures: with the names of the classes.
        palette: colours of the classes.
        attempts: the head at each resolution.
        best: the one that was saved.
        notes: what is odd, in words.
    """
    shown = _draw(config, request.report, pictures, palette, best)
    header = ["pixels", "mIoU", "pixel accuracy", "epochs", "s for features", "s for the head"]
    rows = [
        [one.size, *(told_figure(one.rating.figures.get(name)) for name in header[1:3]),
         str(len(one.history)), *(f"{seconds:.1f}" for seconds in one.seconds)]
        for one in attempts
    ]  # fmt: skip
    return report.write(
        request.report,
        f"A segmenter of {len(pictures.labels)} classes on {request.backbone}",
        best.told(),
        [
            Section(
                "Heads",
                [
                    *markdown(header, rows),
                    "",
                    "In percent, on pictures that were held out, at their own size; in brackets "
                    f"intervals that hold {CONFIDENCE:.0%} of what as many pictures, drawn from "
                    "these again and again, have. The epoch is chosen on the same pictures, so "
                    "that new ones may do a little worse.",
                ],
            ),
            Section("To be noted", report.bullets(notes)),
            Section("Epochs", _shown(shown, CURVE)),
            Section(
                "Worst pictures",
                _shown(shown, WORST, "Of those held out, by the mean IoU of their classes."),
            ),
            Section("Classes", _classes(pictures, best)),
            Section("How", report.pairs(_how(config, request, pictures, best))),
        ],
    )


def _draw(
    config: Config, folder: Path, pictures: Pictures, palette: Palette, best: Fitted
) -> list[str]:
    """Draw what there is to be drawn: the names of the files."""
    try:
        from vimserve.server.commands.train import pixel_plots
    except ImportError:
        print(f"vimserve: {NO_PLOTS}", file=sys.stderr)
        return []
    pixel_plots.epochs(folder / CURVE, best.history)
    pixel_plots.worst(folder / WORST, best.worst, pictures.labels, palette, config.max_pixels)
    return [CURVE, WORST]


def _shown(shown: Sequence[str], name: str, about: str = "") -> list[str]:
    return report.picture(name, about) if name in shown else []


def _classes(pictures: Pictures, best: Fitted) -> list[str]:
    total = max(sum(best.pixels), 1)
    rows = [
        [label.replace("|", "\\|"), f"{count / total:.2%}", _share(best.rating.classes.get(label))]
        for label, count in zip(pictures.labels, best.pixels, strict=True)
    ]
    return markdown(["class", "of the pixels trained on", "IoU held out, %"], rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _how(config: Config, request: Request, pictures: Pictures, best: Fitted) -> dict[str, str]:
    pixels = request.pixels
    variants = ["as they are", *["flipped"] * pixels.flips, *(f"at {s:g}" for s in pixels.scales)]
    width = f" of {pixels.channels}" if pixels.head == "upernet" else ""
    return circumstances(
        config,
        request,
        len(pictures.train),
        len(pictures.held_out),
        of_head={"head": f"{pixels.head}{width}"},
        of_pictures={"variants": f"{', '.join(variants)}: {best.views} in all"},
    )
