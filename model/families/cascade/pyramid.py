"""The simple feature pyramid (ViTDet, arXiv 2203.16527): five levels of one map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from vimserve.kernels.dispatch import activation_dtype
from vimserve.kernels.roi_align import roi_align
from vimserve.model.batch import to_device
from vimserve.model.families.cascade.boxes import pooling_level
from vimserve.model.families.cascade.layers import (
    NORM_EPS,
    Doubling,
    NormedConv,
    NormedLinear,
    Strip,
    in_place,
    strips,
)
from vimserve.model.layout import Grid
from vimserve.model.packed import PackedModel

STRIDES = (4, 8, 16, 32, 64)
POOLED = 4  # levels that boxes are pooled from, the finest ones


class SimpleFeaturePyramid(nn.Module):
    """The backbone ``net`` and what makes the levels of its last features; published names."""

    def __init__(self, net: PackedModel, channels: int) -> None:
        super().__init__()
        self.net = net
        D, C = net.width, channels
        self.simfp_2 = nn.Sequential(
            Doubling(D, D // 2),
            nn.LayerNorm(D // 2, NORM_EPS),
            nn.GELU(),
            Doubling(D // 2, D // 4),
            NormedLinear(D // 4, C),
            NormedConv(C, C),
        )
        self.simfp_3 = nn.Sequential(Doubling(D, D // 2), NormedLinear(D // 2, C), NormedConv(C, C))
        self.simfp_4 = nn.Sequential(NormedLinear(D, C), NormedConv(C, C))
        self.simfp_5 = nn.Sequential(nn.MaxPool2d(2), NormedLinear(D, C), NormedConv(C, C))

    def forward(self, features: Tensor, levels: Sequence[Tensor]) -> None:
        """Compute ``levels``, ``[N, H', W', C]`` of all ``STRIDES`` but the last, of ``features``.

        These are ``[N, H, W, D]``. The last level is ``coarsest`` of the one before.
        """
        for level, make in zip(levels, (self._p2, self._p3, self._p4, self._p5), strict=True):
            make(features, level)

    def _p2(self, features: Tensor, level: Tensor) -> None:
        double, norm, _, again, lateral, smooth = self.simfp_2
        for strip in strips(level):
            seen, rows = _source(strip.widened(), features, 4)
            doubled = norm(double(rows))
            torch.ops.aten.gelu_(doubled)
            near = lateral(in_place(again(in_place(doubled)))[:, seen])
            level[:, strip.rows] = smooth(near, above=strip.first, below=strip.last)

    def _p3(self, features: Tensor, level: Tensor) -> None:
        double, lateral, smooth = self.simfp_3
        for strip in strips(level):
            seen, rows = _source(strip.widened(), features, 2)
            near = lateral(in_place(double(rows))[:, seen])
            level[:, strip.rows] = smooth(near, above=strip.first, below=strip.last)

    def _p4(self, features: Tensor, level: Tensor) -> None:
        lateral, smooth = self.simfp_4
        for strip in strips(level):
            near = lateral(features[:, strip.widened().rows])
            level[:, strip.rows] = smooth(near, above=strip.first, below=strip.last)

    def _p5(self, features: Tensor, level: Tensor) -> None:
        halve, lateral, smooth = self.simfp_5
        halved = halve(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        level.copy_(smooth(lateral(halved)))


def coarsest(level: Tensor) -> Tensor:
    """The last level, of the one before: every second row and column."""
    return level[:, ::2, ::2]


def _source(strip: Strip, features: Tensor, factor: int) -> tuple[slice, Tensor]:
    """The rows of ``features`` that a strip of a finer map is made of.

    Returns:
        Where the strip lies in ``factor`` times these rows, and the rows.
    """
    begin, end = strip.begin // factor, -(-strip.end // factor)
    first = begin * factor
    return slice(strip.begin - first, strip.end - first), features[:, begin:end]


@dataclass(frozen=True)
class PooledLevels:
    """The levels of N images of any sizes, from which boxes are pooled.

    Attributes:
        maps: of each of the first ``POOLED`` levels ``[P, C]``, the pixels of all images.
        places: int32 ``[POOLED, N, 3]``: an image's first row in ``maps``, its height and width.
        grids: of the images' patches.
    """

    maps: list[Tensor]
    places: Tensor
    grids: tuple[Grid, ...]

    @classmethod
    def empty(cls, grids: Sequence[Grid], channels: int, like: Tensor) -> Self:
        """Those of images with these grids of patches, to be filled; computed as ``like`` is."""
        dtype = activation_dtype(like.device.type, like.dtype)
        maps, places = [], []
        for level in range(POOLED):
            first = 0
            for grid in grids:
                height, width = _size(grid, level)
                places += [first, height, width]
                first += height * width
            maps.append(like.new_empty(first, channels, dtype=dtype))
        return cls(maps, to_device(places, like.device).view(POOLED, -1, 3), tuple(grids))

    def of_images(self, begin: int, end: int) -> list[Tensor]:
        """The levels ``[N, H, W, C]`` of images of one grid, those from ``begin`` to ``end``."""
        views = []
        for level, maps in enumerate(self.maps):
            pixels = [math.prod(_size(grid, level)) for grid in self.grids[:end]]
            rows = maps[sum(pixels[:begin]) : sum(pixels)]
            views.append(rows.view(end - begin, *_size(self.grids[begin], level), -1))
        return views

    def pool(self, boxes: Tensor, images: Tensor, size: int) -> Tensor:
        """``[R, size, size, C]`` of boxes ``[R, 4]`` in pixels of images ``[R]`` (int32)."""
        levels = pooling_level(boxes, POOLED)
        return roi_align(
            self.maps, self.places, STRIDES[:POOLED], boxes.contiguous(), images, levels, size
        )


def _size(grid: Grid, level: int) -> Grid:
    rows, cols = grid
    return (4 * rows >> level, 4 * cols >> level)
