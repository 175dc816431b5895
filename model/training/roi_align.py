"""ROIAlign (arXiv 1703.06870) with gradients of the features, in plain PyTorch.

A bin is the mean of samples that stand on a regular grid, each interpolated bilinearly. Both are
separable, so a box's bins are ``Y F X^T`` with the weights of the rows that it touches, ``[size,
h]``, those of the columns, ``[size, w]``, and the features between, ``[h, w, C]``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vimserve.model.families.cascade.boxes import pooling_level


class Part(NamedTuple):
    """What one box reads along one axis: cells ``first`` to ``end``, by weights ``[size, n]``."""

    first: int
    end: int
    weights: Tensor


def parts(starts: Tensor, ends: Tensor, size: int, cells: int) -> list[Part]:
    """The parts of boxes that reach from ``starts`` to ``ends`` (``[R]``, in cells).

    The centre of the first of the ``cells`` is at 0. Samples beyond -1 or ``cells`` count as zero.
    """
    extent = (ends - starts) / size
    samples = extent.ceil()[:, None]  # none in an empty box, which is thus pooled to zeros
    index = torch.arange(max(1, int(samples.max())))
    inside = index < samples
    samples = samples.clamp(min=1)
    offsets = (index + 0.5) / samples
    bins = torch.arange(size)[:, None] + offsets[:, None]  # [R, size, most]
    places = starts[:, None, None] + bins * extent[:, None, None]
    counted = inside[:, None] & (places >= -1) & (places <= cells)
    places = places.clamp(0, cells - 1)
    below = places.floor().clamp(max=max(0, cells - 2)).long()
    above = (below + 1).clamp(max=cells - 1)
    share = places - below
    weight = counted / samples[:, None]
    first = below.flatten(1).amin(1)
    end = above.flatten(1).amax(1) + 1
    table = torch.zeros(len(starts), size, int((end - first).max()))
    table.scatter_add_(2, below - first[:, None, None], weight * (1 - share))
    table.scatter_add_(2, above - first[:, None, None], weight * share)
    spans = zip(first.tolist(), end.tolist(), table, strict=True)
    return [Part(low, high, rows[:, : high - low]) for low, high, rows in spans]


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, down: list[Part], across: list[Part], images: list[int]
    ) -> Tensor:
        size = len(down[0].weights)
        pooled = maps.new_empty(len(down), size, size, maps.shape[3])
        for row, (y, x, image) in enumerate(zip(down, across, images, strict=True)):
            part = maps[image, y.first : y.end, x.first : x.end]
            torch.matmul(x.weights, torch.tensordot(y.weights, part, 1), out=pooled[row])
        ctx.shape, ctx.boxes = maps.shape, (down, across, images)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        maps = gradient.new_zeros(ctx.shape)
        for of_box, y, x, image in zip(gradient, *ctx.boxes, strict=True):
            part = torch.tensordot(y.weights.T, torch.matmul(x.weights.T, of_box), 1)
            maps[image, y.first : y.end, x.first : x.end] += part
        return maps, None, None, None


def roi_align(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, images: Tensor, size: int
) -> Tensor:
    """Features of boxes, aligned, with as many samples in a bin as it has cells.

    Args:
        maps: ``[N, C, h, w]`` of each level, the finest (level 2) first; only they get gradients.
        strides: pixels of the input from cell to cell.
        boxes: ``[R, 4]``, left, top, right and bottom in pixels of the input.
        images: ``[R]``, which of the N images each is in.
        size: bins along each axis.

    Returns:
        ``[R, C, size, size]``.
    """
    levels = pooling_level(boxes, len(maps))
    pooled = maps[0].new_zeros(len(boxes), size, size, maps[0].shape[1])
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = (levels == level).nonzero().flatten()
        if not len(rows):
            continue
        left, top, right, bottom = (boxes[rows] / stride - 0.5).unbind(1)
        down = parts(top, bottom, size, features.shape[2])
        across = parts(left, right, size, features.shape[3])
        of_images = images[rows].tolist()
        of_level = _Pool.apply(  # type: ignore[no-untyped-call]
            features.permute(0, 2, 3, 1), down, across, of_images
        )
        pooled = pooled.index_copy(0, rows, of_level)
    return pooled.permute(0, 3, 1, 2)
