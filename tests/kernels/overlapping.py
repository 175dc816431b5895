"""Boxes for non-maximum suppression."""

import torch
from torch import Tensor

CASES = {
    # groups, boxes in each, width and height of the picture, threshold
    "one box": (1, 1, 50, 0.5),
    "few": (3, 5, 20, 0.5),
    "a block but one": (2, 15, 30, 0.3),
    "a block": (2, 16, 30, 0.3),
    "a block and one": (2, 17, 30, 0.3),
    "no overlap allowed": (2, 40, 90, 0.0),
    "any overlap allowed": (2, 40, 20, 1.0),
    "dense": (5, 130, 60, 0.7),
    "sparse": (2, 200, 900, 0.5),
}
NOT_SOUND = {
    "a point": (4.0, 4.0, 4.0, 4.0),
    "a line": (4.0, 0.0, 4.0, 8.0),
    "turned over": (8.0, 0.0, 0.0, 8.0),
    "turned over twice": (8.0, 8.0, 0.0, 0.0),
    "no number": (0.0, 0.0, torch.nan, 8.0),
    "endless": (-torch.inf, 0.0, torch.inf, 8.0),
    "too large": (-3e38, -3e38, 3e38, 3e38),
}


def make_boxes(count: int, side: float, seed: int = 0) -> Tensor:
    """``[count, 4]``, whose middles lie within a square."""
    random = torch.Generator().manual_seed(seed)
    middle = side * torch.rand(count, 2, generator=random)
    half = 20 * torch.rand(count, 2, generator=random) + 1
    return torch.cat([middle - half, middle + half], 1)


def make_case(name: str) -> tuple[Tensor, Tensor, float]:
    """Arguments of ``nms``: some boxes are in several groups, and the last group is shorter."""
    groups, most, side, threshold = CASES[name]
    boxes = make_boxes(2 * most, side)
    random = torch.Generator().manual_seed(1)
    order = torch.stack([torch.randperm(2 * most, generator=random) for _ in range(groups)])
    order = order[:, :most].int().contiguous()
    order[-1, most - most // 3 :] = -1
    return boxes, order, threshold
