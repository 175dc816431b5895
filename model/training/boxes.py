"""How boxes lie to each other: float32 ``[N, 4]``, left, top, right and bottom edge, in pixels."""

import torch
from torch import Tensor

from vimserve.kernels.nms import nms


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersections over unions ``[A, B]`` of boxes ``[A, 4]`` and ``[B, 4]``."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    union = areas(first)[:, None] + areas(second) - shared
    return torch.where(shared > 0, shared / union, 0)


def areas(boxes: Tensor) -> Tensor:
    """``[N, 4]`` to ``[N]``."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def encode(boxes: Tensor, targets: Tensor, weights: tuple[float, float]) -> Tensor:
    """The deltas ``[N, 4]`` that the server decodes, by the same weights, to ``targets``."""
    sides, target_sides = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + target_sides / 2 - boxes[:, :2] - sides / 2) / sides
    return torch.cat((shift * weights[0], (target_sides / sides).log() * weights[1]), 1)


def unsuppressed(boxes: Tensor, threshold: float) -> Tensor:
    """Which of boxes, sorted by descending score, overlap no kept one before them: bool ``[N]``."""
    return nms(boxes, torch.arange(len(boxes), dtype=torch.int32)[None], threshold)[0]
