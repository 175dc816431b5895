"""Feature pyramids, and boxes that pool them in every way there is."""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

SIZES = [(96, 160), (64, 32), (32, 32)]  # of each image, in pixels of the input
STRIDES = [4, 8, 32]
EMPTY = [
    [0.0, 0.0, 0.0, 0.0],
    [5.0, 5.0, 5.0, 40.0],
    [5.0, 9.0, 40.0, 9.0],
    [40.0, 5.0, 20.0, 40.0],
    [5.0, 40.0, 20.0, 20.0],
    [float("nan"), 0.0, 9.0, 9.0],
    [0.0, 0.0, float("inf"), 9.0],
]
BOXES = [
    [3.0, 5.0, 60.0, 44.0],  # within the image
    [0.0, 0.0, 160.0, 96.0],  # all of it; its bins are whole pixels of a level
    [-60.0, -21.5, 40.0, 30.0],  # beyond each side of it, and beyond all
    [120.0, 70.0, 260.5, 200.0],
    [-100.0, -80.0, 260.0, 180.0],
    [-4.0, -4.0, 24.0, 24.0],  # from just the pixel above and left of the first on
    [300.0, 300.0, 340.0, 330.0],  # nowhere in it
    [10.0, 12.0, 11.5, 12.25],  # within a pixel
    [2.0, 30.0, 158.0, 34.0],  # much wider than high, and the reverse
    [70.0, 1.0, 73.0, 95.0],
]


def pyramid(C: int) -> dict[str, Any]:
    """The operands of ``roi_align`` but the boxes': three images, on three levels."""
    torch.manual_seed(C)
    maps, places = [], []
    for stride in STRIDES:
        sizes = [(height // stride, width // stride) for height, width in SIZES]
        begins = [0, *accumulate(height * width for height, width in sizes)]
        maps.append(torch.randn(begins[-1], C))
        places.append([[begin, *size] for begin, size in zip(begins, sizes, strict=False)])
    return {
        "maps": maps,
        "places": torch.tensor(places, dtype=torch.int32),
        "strides": STRIDES,
    }


def everywhere(boxes: list[list[float]]) -> dict[str, Tensor]:
    """Each of these boxes in every image, on every level."""
    images, levels = torch.meshgrid(
        torch.arange(len(SIZES)), torch.arange(len(STRIDES)), indexing="ij"
    )
    places = images.numel()
    return {
        "boxes": torch.tensor(boxes).repeat_interleave(places, 0),
        "images": images.flatten().repeat(len(boxes)).int(),
        "levels": levels.flatten().repeat(len(boxes)).int(),
    }
