"""Windows along one side of a scene: their cells, how much each counts, and the cells' pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Axis:
    """One side of a scene.

    A cell is what one score is for. If a single window covers the side, its cells are spread over
    all pixels, as those of a picture are; otherwise each has ``cell`` pixels, and the last one may
    reach beyond the scene.

    Args:
        firsts: first pixels of the windows, ascending multiples of ``cell``.
        length: of the side in pixels.
        extent: of a window in cells.
        cell: in pixels.

    Attributes:
        starts: first cells of the windows.
        extent: of a window in cells.
        weights: float32 ``[windows, extent]``. A window counts less towards its neighbours, in
            proportion to how far it reaches over them; all weights of a cell add up to 1.
    """

    def __init__(self, firsts: Sequence[int], length: int, extent: int, cell: int) -> None:
        self.starts = [first // cell for first in firsts]
        self.extent = extent
        self._length, self._cell = length, cell
        self._cells = self.starts[-1] + extent
        tents = [self._tent(number) for number in range(len(firsts))]
        total = np.zeros(self._cells)
        for start, tent in zip(self.starts, tents, strict=True):
            total[start : start + extent] += tent
        self.weights: Sequence[Floats] = [
            (tent / total[start : start + extent]).astype(np.float32)
            for start, tent in zip(self.starts, tents, strict=True)
        ]

    def complete(self, number: int) -> int:
        """How many cells of a window no later one has a part of."""
        if number == len(self.starts) - 1:
            return self.extent
        return self.starts[number + 1] - self.starts[number]

    def pixels(self, cells: range) -> range:
        """The pixels that lie between the centres of the first and the last of these cells.

        Those at the scene's ends have all their pixels.
        """
        if len(self.starts) == 1:
            return range(self._length)
        half = self._cell // 2
        first = cells.start * self._cell + (self._cell - half if cells.start else 0)
        last = self._length if cells.stop == self._cells else cells.stop * self._cell - half
        return range(first, last)

    def spread(self, cells: range) -> range:
        """The pixels that are spread over these cells, which may reach beyond the scene."""
        if len(self.starts) == 1:
            return range(self._length)
        return range(cells.start * self._cell, cells.stop * self._cell)

    def _tent(self, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """1 where only this window is, and down to 0 where a neighbour begins or ends."""
        at = np.arange(self.extent) + 0.5
        tent = np.ones(self.extent)
        start = self.starts[number]
        if number > 0 and (over := self.starts[number - 1] + self.extent - start) > 0:
            tent = np.minimum(tent, at / over)
        if (
            number < len(self.starts) - 1
            and (over := start + self.extent - self.starts[number + 1]) > 0
        ):
            tent = np.minimum(tent, (self.extent - at) / over)
        return tent
