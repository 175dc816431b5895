"""Joins the class scores of a scene's windows, and makes the classes of its pixels of them.

Where windows overlap, their scores are averaged with weights that fall off linearly towards a
window's edge. Then they are interpolated between the cells and the largest one wins, as in a
picture that the model sees in one piece. What a row of windows leaves to the next one is kept in a
file: the sums of the cells that both see, and one row more, between which and the next is
interpolated.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.slide import Window
from vimserve.server.scenes import mask_files
from vimserve.server.scenes.axis import Axis
from vimserve.server.scenes.described import Described, cells_along
from vimserve.server.scenes.grid import Grid
from vimserve.server.scenes.partial import Partial
from vimserve.server.scenes.raw_files import NODATA, ClassFile, ScoreFile
from vimserve.server.scenes.scene import Shown

Scores = np.ndarray[Any, np.dtype[np.float32]]


class SegmentJoiner:
    """The ``Joiner`` of float32 scores ``[classes, h / cell, w / cell]``.

    Args:
        model: that made the scores.
        shown: the scene.
        grid: its windows; they begin at multiples of the model's cell.
        partial: keeps the files.

    Raises:
        ValueError: if a byte has no value left for pixels that show nothing.
        OSError: if the files cannot be opened.
    """

    def __init__(self, model: Described, shown: Shown, grid: Grid, partial: Partial) -> None:
        classes = len(model.labels)
        if classes > NODATA:
            raise ValueError(
                f"{model.name!r} has {classes} classes, but the mask of a scene has at most "
                f"{NODATA}: the value {NODATA} is for pixels without data"
            )
        self._model, self._shown, self._partial = model, shown, partial
        height, width = grid.extent
        rows, columns = (cells_along(n, model.multiple, model.cell) for n in (height, width))
        self._down = Axis(grid.tops, shown.size[0], rows, model.cell)
        self._across = Axis(grid.lefts, shown.size[1], columns, model.cell)
        self._shape = (self._down.extent, self._across.extent, classes)
        self._mask = ClassFile(partial.folder / "classes", shown.size)
        # The last row's sums are only read, so that its successor may begin again.
        self._left = [ScoreFile(partial.folder / f"left-{parity}") for parity in (0, 1)]
        self._begin(partial.rows)

    def add(self, window: Window, result: Scores | None) -> None:  # noqa: ARG002
        """See ``Joiner.add``.

        Raises:
            ValueError: if the scores are not of the grid's size.
        """
        if self._column:
            self._finish(self._across.complete(self._column - 1))
        if result is not None:
            height, width, classes = self._shape
            if result.shape != (classes, height, width):
                raise ValueError(
                    f"the scores of a window are {list(result.shape)}, not "
                    f"{[classes, height, width]}"
                )
            weights = np.multiply.outer(
                self._down.weights[self._row], self._across.weights[self._column]
            )
            self._sums += weights[..., None] * result.transpose(1, 2, 0)
        self._column += 1

    def end_row(self, number: int) -> None:
        """See ``Joiner.end_row``."""
        self._finish(self._across.extent)
        self._left[number % 2].flush()
        self._mask.flush()
        self._partial.complete(number + 1)
        self._begin(number + 1)

    def finish(self, output: Path, form: str) -> None:
        """See ``Joiner.finish``."""
        mask_files.write(self._mask, output, form, self._model, self._shown.georeference)
        for file in (self._mask, *self._left):
            file.close()

    def _begin(self, row: int) -> None:
        """The sums of the windows of a row so far: of the columns that are not finished."""
        self._row, self._column = row, 0
        self._done = 0  # columns of cells
        self._sums = np.zeros(self._shape, np.float32)
        self._before: Scores | None = None

    def _finish(self, columns: int) -> None:
        """So many columns have the scores of all windows of the row."""
        row, first = self._row, self._done
        block = self._sums[:, :columns]
        rows = self._down.complete(row)
        top = self._down.starts[row]
        if row > 0:
            kept = self._down.extent - self._down.complete(row - 1) + 1
            left = self._left[(row - 1) % 2].read(first, (columns, kept, self._shape[2]))
            above, begun = np.split(left.transpose(1, 0, 2), [1])
            block[: len(begun)] += begun
            final, top = np.concatenate([above, block[:rows]]), top - 1
        else:
            final = block[:rows]
        if row < len(self._down.starts) - 1:
            self._left[row % 2].write(first, block[rows - 1 :].transpose(1, 0, 2))
        if self._before is not None:
            final = np.concatenate([self._before, final], axis=1)
            first -= 1
        self._classify(final, top, first)
        self._before = final[:, -1:].copy()
        self._done += columns
        self._sums = np.concatenate([self._sums[:, columns:], np.zeros_like(block)], axis=1)

    def _classify(self, scores: Scores, top: int, left: int) -> None:
        """Write the classes of the pixels between the centres of cells with these scores."""
        rows, columns = range(top, top + scores.shape[0]), range(left, left + scores.shape[1])
        tall, wide = self._down.spread(rows), self._across.spread(columns)
        classes, _ = upsample_argmax(
            torch.from_numpy(scores).permute(2, 0, 1), (len(tall), len(wide))
        )
        down, across = self._down.pixels(rows), self._across.pixels(columns)
        inside = classes.numpy()[_within(down, tall), _within(across, wide)]
        part = Window(down.start, across.start, len(down), len(across))
        valid = self._shown.valid(part)
        if valid is not None:
            inside = np.where(valid, inside, np.uint8(NODATA))
        self._mask.write(part.top, part.left, inside)


def _within(part: range, whole: range) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
