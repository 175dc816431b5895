"""The region proposal network (arXiv 1506.01497): where something may be."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vimserve.kernels.nms import nms
from vimserve.model.convolution import PreparedConv
from vimserve.model.families.cascade.boxes import clip, decode
from vimserve.model.families.cascade.layers import strips
from vimserve.model.families.cascade.pyramid import STRIDES
from vimserve.model.linear import PreparedLinear
from vimserve.model.prepared import PreparedModule

ANCHOR_SIDES = (32, 64, 128, 256, 512)  # one for each of STRIDES
RATIOS = (0.5, 1.0, 2.0)  # height / width
WEIGHTS = (1.0, 1.0)
MOST = 1000  # proposals of a level before NMS, and of an image after it
OVERLAP = 0.7


class RPNHead(PreparedModule):
    """Two convolutions, and for each anchor a logit and four deltas; published names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        names = ("conv0", "conv1")
        self.conv = nn.ModuleDict({name: nn.Conv2d(channels, channels, 3) for name in names})
        self.objectness_logits = nn.Conv2d(channels, len(RATIOS), 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * len(RATIOS), 1)
        self._prepared: tuple[PreparedConv, PreparedConv, PreparedLinear] | None = None

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """A level ``[N, H, W, C]`` to logits ``[N, A]`` and deltas ``[N, A, 4]``, float32.

        The A anchors are ordered by row, column and ratio.
        """
        first, second, outputs = self._prepared = self._prepared or self._prepare()
        N, H, W, _ = maps.shape
        made = maps.new_empty(N, H, W, 5 * len(RATIOS), dtype=torch.float32)
        for strip in strips(maps):
            near = strip.widened()
            hidden = first(maps[:, near.widened().rows], above=near.first, below=near.last)
            hidden = second(hidden, above=strip.first, below=strip.last)
            made[:, strip.rows] = outputs(hidden.flatten(0, 2)).view(N, -1, W, 5 * len(RATIOS))
        logits, deltas = made.split([len(RATIOS), 4 * len(RATIOS)], 3)
        return logits.flatten(1), deltas.flatten(1).unflatten(1, (-1, 4))

    def _prepare(self) -> tuple[PreparedConv, PreparedConv, PreparedLinear]:
        convs = [conv for conv in self.conv.values() if isinstance(conv, nn.Conv2d)]
        first, second = (PreparedConv(conv.weight, conv.bias, "relu") for conv in convs)
        both = (self.objectness_logits, self.anchor_deltas)
        weight, bias = (torch.cat([getattr(of, n) for of in both]) for n in ("weight", "bias"))
        return first, second, PreparedLinear(weight.flatten(1), bias)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._prepared = None


class ProposalGenerator(nn.Module):
    """Holds the head under its published name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rpn_head = RPNHead(channels)

    def forward(self, levels: Sequence[Tensor], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The proposals of N images of equal grids.

        Args:
            levels: ``[N, H, W, C]`` of each of ``STRIDES``.
            sizes: float32 ``[N, 2]``, height and width in pixels to which boxes are clipped.

        Returns:
            Boxes ``[N, MOST, 4]`` and logits ``[N, MOST]`` in descending order, behind the last
            one boxes of zeros and -inf, and whether an image's logits and boxes are finite ``[N]``.
        """
        boxes, scores = [], []
        finite = sizes.new_ones(len(sizes), dtype=torch.bool)
        for level, maps in enumerate(levels):
            logits, deltas = self.rpn_head(maps)
            finite &= logits.isfinite().all(1)
            best, index = logits.topk(min(MOST, logits.shape[1]))
            moved = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            decoded = decode(moved, anchors(index, level, maps.shape[2]), WEIGHTS)
            finite &= decoded.isfinite().flatten(1).all(1)
            boxes.append(decoded)
            scores.append(best)
        return *select(boxes, scores, sizes), finite


def anchors(index: Tensor, level: int, width: int) -> Tensor:
    """The anchors ``[…, 4]`` with these numbers ``[…]`` on a level ``width`` pixels wide."""
    halves = _halves(ANCHOR_SIDES[level], index.device)[index % len(RATIOS)]
    cell = index // len(RATIOS)
    middle = torch.stack([cell % width, cell // width], -1) * STRIDES[level]
    return torch.cat([middle - halves, middle + halves], -1)


@functools.cache
def _halves(side: int, device: torch.device) -> Tensor:
    """Half the width and height of each anchor of an area, ``[ratios, 2]``."""
    widths = [math.sqrt(side * side / ratio) for ratio in RATIOS]
    sides = [(width / 2, width * ratio / 2) for width, ratio in zip(widths, RATIOS, strict=True)]
    return torch.tensor(sides, dtype=torch.float32, device=device)


def select(
    boxes: Sequence[Tensor], scores: Sequence[Tensor], sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """The best boxes of all levels, of those that overlap in a level only the best one.

    Args:
        boxes: ``[N, M, 4]`` of each level, M at most ``MOST``.
        scores: ``[N, M]``, descending.
        sizes: ``[N, 2]``.

    Returns:
        As ``ProposalGenerator.forward``: ``[N, MOST, 4]`` and ``[N, MOST]``.
    """
    N = len(sizes)
    together, logits = torch.cat(list(boxes), 1), torch.cat(list(scores), 1)
    finite = together.isfinite().all(2) & logits.isfinite()
    together = clip(together, sizes[:, None])
    good = finite & (together[..., 2:] > together[..., :2]).all(2)
    together = together.where(good[..., None], 0)
    logits = logits.where(good, -torch.inf)
    rows = torch.arange(good.numel(), dtype=torch.int32, device=good.device).view_as(good)
    order = rows.new_full((N, len(boxes), MOST), -1)
    first = 0
    for level, of_level in enumerate(scores):
        M = of_level.shape[1]
        here = slice(first, first + M)
        last = good[:, here].logical_not().sort(dim=1, stable=True).indices  # the bad ones last
        ordered = rows[:, here].gather(1, last)
        order[:, level, :M] = ordered.where(good[:, here].gather(1, last), -1)
        first += M
    kept = nms(together.flatten(0, 1), order.flatten(0, 1), OVERLAP).view_as(order)
    # Where a row is kept its logit; order is -1 only where nothing is kept.
    chosen = order.flatten(1).long().clamp(min=0)
    of_order = logits.flatten()[chosen].where(kept.flatten(1), -torch.inf)
    best, index = of_order.topk(MOST)
    row = chosen.gather(1, index)
    return together.flatten(0, 1)[row].where(best.isfinite()[..., None], 0), best
