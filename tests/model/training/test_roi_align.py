"""Pooled features and their gradients, against sampling point by point."""

import math

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model.training.roi_align import roi_align

BOXES = torch.tensor(
    [
        [0.0, 0, 16, 16], [3.3, 5.1, 50, 21.7], [-9, -20, 30, 100], [60, 40, 90, 70],
        [10, 10, 10, 30], [2, 3, 2.4, 3.3], [0, 0, 64, 48],
    ]
)  # fmt: skip


def interpolated(features: Tensor, y: float, x: float) -> Tensor:
    """Of ``[C, H, W]``, zeros more than a cell outside."""
    height, width = features.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(features))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = features[:, top, left] * (1 - x + left) + features[:, top, right] * (x - left)
    lower = features[:, bottom, left] * (1 - x + left) + features[:, bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def sampled(features: Tensor, box: Tensor, stride: int, size: int) -> Tensor:
    left, top, right, bottom = (box / stride - 0.5).tolist()
    high, wide = (bottom - top) / size, (right - left) / size
    down, across = math.ceil(high), math.ceil(wide)
    bins = []
    for row in range(size):
        for column in range(size):
            points = [
                interpolated(
                    features,
                    top + (row + (i + 0.5) / down) * high,
                    left + (column + (j + 0.5) / across) * wide,
                )
                for i in range(down)
                for j in range(across)
            ]
            total = sum(points, torch.zeros(len(features)))
            bins.append(total / max(1, len(points)))
    return torch.stack(bins, 1).view(-1, size, size)


@pytest.mark.parametrize(("stride", "size"), [(4, 7), (1, 3), (16, 14)])
def test_bins_are_means_of_samples(stride: int, size: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 48 // stride, 64 // stride)
    images = torch.arange(len(BOXES)) % 2
    pooled = roi_align([maps], [stride], BOXES, images, size)
    for box, image, found in zip(BOXES, images, pooled, strict=True):
        assert_close("pooled", found, sampled(maps[image], box, stride, size), atol=1e-5)


def test_gradients_are_those_of_the_bins() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 12, 16)
    images = torch.arange(len(BOXES)) % 2
    weights = torch.randn(len(BOXES), 3, 7, 7)
    found, expected = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    (roi_align([found], [4], BOXES, images, 7) * weights).sum().backward()
    loops = [sampled(expected[i], box, 4, 7) for i, box in zip(images, BOXES, strict=True)]
    (torch.stack(loops) * weights).sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    assert_close("gradient", found.grad, expected.grad, atol=1e-5)


def test_larger_boxes_are_pooled_from_coarser_levels() -> None:
    sides = torch.tensor([1, 111, 113, 223, 225, 447, 449.0])
    boxes = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    pyramid = [torch.full((1, 1, 128 // 2**n, 128 // 2**n), float(n)) for n in range(4)]
    pooled = roi_align(pyramid, (4, 8, 16, 32), boxes, torch.zeros(7).long(), 2)
    assert pooled[:, 0, 0, 0].round().tolist() == [0, 0, 1, 1, 2, 2, 3]
