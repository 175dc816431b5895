"""Boxes: how deltas move them, where they are cut off, and which level they are pooled from."""

import math

import torch
from torch import Tensor

# What a side can grow to within one step, as in Detectron2: 1000 / 16 times.
MOST_GROWTH = math.log(1000 / 16)
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4


def decode(deltas: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Move and resize boxes.

    Args:
        deltas: ``[…, 4]``: shift of the middle in widths and heights, logarithm of the growth.
        boxes: ``[…, 4]``: left, top, right, bottom.
        weights: by which shifts and growths are divided.

    Returns:
        float32 ``[…, 4]``.
    """
    shift, growth = (
        part / weight for part, weight in zip(deltas.float().split(2, -1), weights, strict=True)
    )
    start, end = boxes.split(2, -1)
    sides = end - start
    middle = start + 0.5 * sides + shift * sides
    half = 0.5 * sides * growth.clamp(max=MOST_GROWTH).exp()
    return torch.cat([middle - half, middle + half], -1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes ``[…, 4]`` cut off at pictures of ``sizes`` ``[…, 2]``, (height, width) in pixels."""
    corner = sizes.flip(-1)
    return boxes.clamp(min=0).minimum(torch.cat([corner, corner], -1))


def pooling_level(boxes: Tensor, levels: int) -> Tensor:
    """The level, 0 for the finest (stride 4), that each box is pooled from; int32 ``[…]``.

    A box of 224 x 224 pixels is pooled from stride 16, and each doubling of its side is a level
    (Lin et al., arXiv 1612.03144, equation 1). A box that is not finite has the finest.
    """
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    level = torch.floor(
        CANONICAL_LEVEL + torch.log2((width * height).sqrt() / CANONICAL_SIDE + 1e-8)
    )
    return (level - 2).nan_to_num(0).clamp(0, levels - 1).int()
