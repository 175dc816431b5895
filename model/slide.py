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


def _along(length: int, side: int, stride: int) -> tuple[list[int], int]:
    """Where the windows begin along one side, and how long they are there."""
    extent = min(side, length)
    steps = -(-(length - extent) // stride)
    return [min(i * stride, length - extent) for i in range(steps + 1)], extent
