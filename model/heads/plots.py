"""The pictures of a training's report; they need the extra plots."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL.Image import Image

from vimserve.model.plot_styles import style

MOST_CLASSES = 40  # in a confusion matrix
WRITTEN_CLASSES = 15  # up to which its cells have numbers
COLUMNS = 5  # of a contact sheet
LONGEST = 24  # characters of a label
DPI = 110

Counts = np.ndarray[Any, np.dtype[np.int64]]


def learning_curve(
    file: Path, pictures: Sequence[int], trained: Sequence[float], held_out: Sequence[float]
) -> None:
    """Draw accuracies in percent against the number of pictures that were trained on."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate({"held out": held_out, "trained on": trained}.items()):
        axes.plot(pictures, values, label=name, **style(index))
    axes.set_xscale("log")
    axes.set_xticks(pictures, [f"{count:,}" for count in pictures])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("pictures trained on")
    axes.set_ylabel("accuracy, %")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend()
    figure.savefig(file, dpi=DPI)


def confusion(file: Path, matrix: Counts, labels: Sequence[str]) -> str:
    """Draw how often each class was taken for each; of many classes those with most errors.

    Args:
        file: that is written.
        matrix: ``[classes, classes]``, a row for each true class, a column for each that was found.
        labels: of the classes.

    Returns:
        What was left out, in words; or nothing.
    """
    errors = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    shown = np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])
    part = matrix[np.ix_(shown, shown)]
    shares = part / np.maximum(matrix[shown].sum(1, keepdims=True), 1)
    names = [legible(labels[index], index) for index in shown]
    side = 2.6 + 0.34 * len(shown)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(shown)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    if len(shown) <= WRITTEN_CLASSES:
        for row, column in zip(*part.nonzero(), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(part[row, column]), ha="center", va="center", color=color)
    figure.colorbar(image, label="% of the true class", shrink=0.7)
    figure.savefig(file, dpi=DPI)
    left = len(labels) - len(shown)
    return f"{left} classes with fewer errors are left out" if left else ""


def contact_sheet(file: Path, tiles: Sequence[tuple[Image, str]]) -> None:
    """Draw pictures side by side, each with a text of a few lines above it."""
    rows = math.ceil(len(tiles) / COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 2.9 * rows), layout="constrained")
    every = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in every.flat:
        axes.axis("off")
    for axes, (picture, text) in zip(every.flat, tiles, strict=False):
        axes.imshow(picture)
        axes.set_title(text, fontsize=8.5, parse_math=False)
    figure.savefig(file, dpi=DPI)


def legible(label: str, index: int) -> str:
    """A label as plots show it: cut where it is long, numbered where the font lacks letters."""
    font = FT2Font(font_manager.findfont(font_manager.FontProperties()))
    if not all(font.get_char_index(ord(letter)) for letter in label):
        return f"class {index}"
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
