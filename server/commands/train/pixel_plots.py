"""The pictures of a segmenter's report; they need the extra plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vimserve.model.heads.pixels.fit import Epoch
from vimserve.model.heads.plots import DPI, legible
from vimserve.model.mask_files import IGNORED
from vimserve.model.palette import Palette
from vimserve.model.plot_styles import style
from vimserve.model.transform import Transform
from vimserve.server.commands.train.views import View, checked_mask
from vimserve.server.images.source import EncodedImage

OPACITY = 0.6
SIDE = 640  # pixels, to which larger pictures are reduced
MOST_ENTRIES = 40

Classes = np.ndarray[Any, np.dtype[np.uint8]]


def epochs(file: Path, history: Sequence[Epoch]) -> None:
    """Draw loss and mIoU by epoch."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    of_loss, of_miou = figure.subplots(1, 2)
    numbers = range(1, len(history) + 1)
    of_loss.plot(numbers, [one.loss for one in history], **style(0))
    of_loss.set_ylabel("loss of the pictures trained on")
    of_miou.plot(numbers, [100 * one.miou for one in history], **style(1))
    of_miou.set_ylabel("mIoU held out, %")
    best = max(numbers, key=lambda number: history[number - 1].miou)
    of_miou.axvline(best, color="#999999", linewidth=0.9, linestyle=":")
    for axes in (of_loss, of_miou):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.savefig(file, dpi=DPI)


def worst(
    file: Path,
    answers: Sequence[tuple[View, Classes, float]],
    labels: Sequence[str],
    palette: Palette,
    max_pixels: int,
) -> None:
    """Draw pictures with their masks and with what was found, above a legend.

    Args:
        file: that is written.
        answers: pictures, what was found in them, and the mean IoU of their classes.
        labels: of the classes.
        palette: their colours.
        max_pixels: of a picture that is decoded.
    """
    figure = Figure(figsize=(8.4, 2.9 * len(answers) + 1), layout="constrained")
    every = figure.subplots(len(answers), 3, squeeze=False)
    shown: set[int] = set()
    for row, (view, found, miou) in zip(every, answers, strict=True):
        opened = EncodedImage(view.path.read_bytes()).open(max_pixels)
        picture = opened.picture(Transform())
        truth = checked_mask(view, len(labels))
        texts = view.sample.name[-32:], "mask", f"found, {miou:.0%}"
        pictures = picture, tinted(picture, truth, palette), tinted(picture, found, palette)
        for axes, text, one in zip(row, texts, pictures, strict=True):
            one.thumbnail((SIDE, SIDE))
            axes.imshow(one)
            axes.set_title(text, fontsize=9, parse_math=False)
            axes.axis("off")
        shown |= {*np.unique(truth).tolist(), *np.unique(found).tolist()} - {IGNORED}
    handles = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*palette[i]), label=legible(labels[i], i))
        for i in sorted(shown)[:MOST_ENTRIES]
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8.5)
    figure.savefig(file, dpi=DPI)


def tinted(picture: Image.Image, classes: Classes, palette: Palette) -> Image.Image:
    """A picture with the colours of its classes; what is of no class stays as it is."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    blended = Image.blend(picture, Image.fromarray(colors[classes]), OPACITY)
    known = Image.fromarray((classes != IGNORED).astype(np.uint8) * 255)
    return Image.composite(blended, picture, known)
