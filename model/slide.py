"""Overlapping windows over an image, and the mean of the class scores that each pixel got.

This is how MMSegmentation evaluates the paper's segmentation (arXiv 2401.09417, section 4.2): with
windows of 512 pixels, one every 341, whose scores are enlarged to the image's size and averaged.
Here the scores are averaged before they are enlarged, at a quarter of the resolution, which takes a
sixteenth of the memory. The windows lie on the grid of these scores, one every 340 pixels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vimserve.kernels.lerp import Lerp
from vimserve.kernels.upsample_argmax import upsample_argmax_band

CELLS = 4  # scores along each side of a patch


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Tensor) -> Tensor:
        """That part of ``[3, H, W]``."""
        return pixels[:, self.top : self.top + self.height, self.left : self.left + self.width]


def windows(size: tuple[int, int], side: int, cell: int) -> list[Window]:
    """Windows that cover an image, two thirds of their side apart, in rows.

    The last of a row or column ends with the image.

    Args:
        size: (height, width) of the image.
        side: of a window in pixels; what exceeds the image is cut off.
        cell: side in pixels of what one score is for; all these numbers are its multiples.
    """
    stride = max(2 * side // 3 // cell, 1) * cell
    (tops, height), (lefts, width) = (_along(length, side, stride) for length in size)
    return [Window(top, left, height, width) for top, left in itertools.product(tops, lefts)]


def average(
    scores: Sequence[Tensor], parts: Sequence[Window], size: tuple[int, int], cell: int
) -> Tensor:
    """Class scores ``[classes, H / cell, W / cell]`` of an image from those of its windows.

    Args:
        scores: float32 ``[classes, h / cell, w / cell]`` of each window, on the CPU.
        parts: the windows; together they cover the image.
        size: (height, width) of the image.
        cell: side in pixels of what one score is for.
    """
    # In NumPy, because torch would start a thread pool of its own in every caller's thread.
    total = np.zeros((size[0] // cell, size[1] // cell, len(scores[0])), np.float32)
    count = np.zeros((*total.shape[:2], 1), np.float32)
    for of_window, part in zip(scores, parts, strict=True):
        top, left = part.top // cell, part.left // cell
        place = np.s_[top : top + part.height // cell, left : left + part.width // cell]
        total[place] += of_window.permute(1, 2, 0).numpy()
        count[place] += 1
    total /= count
    return torch.from_numpy(total).permute(2, 0, 1)


class Mosaic:
    """The classes of an image, from class scores of its windows that come one by one.

    It makes the map that ``upsample_argmax`` makes of what ``average`` returns, but holds the
    scores of one row of windows only.

    Args:
        parts: the windows, in rows from the top, each from the left.
        size: (height, width) of the image in pixels.
        cell: side in pixels of what one score is for.
        map_size: (height, width) of the map.

    Attributes:
        classes: uint8, of ``map_size``; complete once every window's scores were added.
    """

    def __init__(
        self,
        parts: Sequence[Window],
        size: tuple[int, int],
        cell: int,
        map_size: tuple[int, int],
    ) -> None:
        self.classes = np.empty(map_size, np.uint8)
        self._parts = parts
        self._cell = cell
        self._height, self._width = size[0] // cell, size[1] // cell
        self._rows = Lerp.of(self._height, map_size[0])
        self._added = 0
        self._made = 0  # rows of the map
        # Sums of scores, and how many, from a row of the image's scores on; before another one
        # they are means.
        self._total = self._count = np.zeros((0, self._width, 0), np.float32)
        self._first = self._mean = 0

    @staticmethod
    def num_bytes(parts: Sequence[Window], width: int, cell: int, classes: int) -> int:
        """Memory of the scores that it holds.

        Args:
            parts: the windows.
            width: of the image in pixels.
            cell: side in pixels of what one score is for.
            classes: scores of a cell.
        """
        return (parts[0].height // cell + 1) * (width // cell) * (classes + 1) * 4

    def add(self, scores: Tensor) -> None:
        """Take the scores of the next window, float32 ``[classes, h / cell, w / cell]``."""
        part = self._parts[self._added]
        self._added += 1
        rows, columns = part.height // self._cell, part.width // self._cell
        if not self._total.size:
            self._total = np.zeros((rows + 1, self._width, len(scores)), np.float32)
            self._count = np.zeros((rows + 1, self._width, 1), np.float32)
        top, left = part.top // self._cell - self._first, part.left // self._cell
        place = np.s_[top : top + rows, left : left + columns]
        self._total[place] += scores.permute(1, 2, 0).numpy()
        self._count[place] += 1
        if self._added == len(self._parts):
            self._finish(self._height)
        elif (following := self._parts[self._added].top) > part.top:
            self._finish(following // self._cell)

    def _finish(self, end: int) -> None:
        """The scores before this row are complete: make what lies between them."""
        means = np.s_[self._mean - self._first : end - self._first]
        self._total[means] /= self._count[means]
        made = int(np.searchsorted(self._rows.second.numpy(), end))
        if made > self._made:
            self.classes[self._made : made] = upsample_argmax_band(
                torch.from_numpy(self._total[: end - self._first]).permute(2, 0, 1),
                self._first,
                self._height,
                self.classes.shape,
                (self._made, made),
            ).numpy()
        self._made, self._mean = made, end
        # The next row of the map may lie between the last of these rows and one below.
        kept = int(self._rows.first[made]) if made < len(self.classes) else end
        for scores in (self._total, self._count):
            gone = min(kept, end) - self._first
            scores[: len(scores) - gone] = scores[gone:].copy()
            scores[len(scores) - gone :] = 0
        self._first = min(kept, end)


def _along(length: int, side: int, stride: int) -> tuple[list[int], int]:
    """Where the windows begin along one side, and how long they are there."""
    extent = min(side, length)
    steps = -(-(length - extent) // stride)
    return [min(i * stride, length - extent) for i in range(steps + 1)], extent
