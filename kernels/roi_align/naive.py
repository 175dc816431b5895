"""The reference: every sample of every box by itself, in plain PyTorch."""

import math

import torch
from torch import Tensor


def roi_align(
    maps: list[Tensor],
    places: Tensor,
    strides: list[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    size: int,
) -> Tensor:
    """See ``kernels.roi_align``."""
    where = places.tolist()
    regions = zip(boxes, images.tolist(), levels.tolist(), strict=True)
    pooled = []
    for box, n, level in regions:
        first, height, width = where[level][n]
        image = maps[level][first : first + height * width].view(height, width, -1)
        pooled.append(_pool(image, box / strides[level] - 0.5, size))
    return torch.stack(pooled)


def _pool(image: Tensor, box: Tensor, size: int) -> Tensor:
    """One box in pixels of its image ``[H, W, C]``, whose middles are whole numbers."""
    H, W, C = image.shape
    start, extent = box[:2], box[2:] - box[:2]
    bins = extent / size
    if not (bins > 0).all() or not bins.isfinite().all():
        return image.new_zeros(size, size, C)
    columns, rows = (math.ceil(bin_) for bin_ in bins.tolist())
    left, right, across = _samples(start[0], bins[0], columns, size, W)
    above, below, down = _samples(start[1], bins[1], rows, size, H)
    samples = image.new_zeros(size * rows, size * columns, C, dtype=torch.float32)
    for y, v in zip((above, below), down, strict=True):
        for x, u in zip((left, right), across, strict=True):
            samples = samples + image[y][:, x].float() * (v[:, None] * u)[..., None]
    means = samples.view(size, rows, size, columns, C).mean((1, 3))
    return means.to(image.dtype)


def _samples(
    start: Tensor, bin_: Tensor, count: int, size: int, length: int
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Along an axis: the pixels beside each of ``size * count`` samples, and their weights."""
    bins = torch.arange(size, device=start.device)[:, None]
    within = (torch.arange(count, device=start.device) + 0.5) * bin_ / count
    at = (start + bins * bin_ + within).flatten()
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    before = at.long()
    after = (before + 1).clamp(max=length - 1)
    fraction = at - before
    return before, after, ((1 - fraction) * inside, fraction * inside)
