"""The second stage over the proposals of several images: from proposals to detections."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vimserve.model.batch import to_device
from vimserve.model.detections import Selection, pack
from vimserve.model.families.cascade.boxes import clip
from vimserve.model.families.cascade.detections import select
from vimserve.model.families.cascade.heads import STAGES, RoIHeads
from vimserve.model.families.cascade.pyramid import PooledLevels

# By how much a sum of scores may be off through rounding.
ROUNDING = 1e-5


def detect(
    heads: RoIHeads,
    levels: PooledLevels,
    proposals: Tensor,
    real: Tensor,
    sizes: Tensor,
    selections: Sequence[Selection],
    *,
    compact: bool,
) -> tuple[list[Tensor], Tensor]:
    """The detections among the proposals of N images.

    Args:
        heads: of the model.
        levels: of the images.
        proposals: ``[N, R, 4]``.
        real: ``[N, R]``: which of the proposals do not only fill up the number.
        sizes: float32 ``[N, 2]``, height and width in pixels to which boxes are clipped.
        selections: which detections of each image are wanted.
        compact: compute only what is needed, which the host must know; else all, and nothing waits
            for the device.

    Returns:
        For each image rows of ``model.detections.pack``, and whether all of its boxes and scores
        are finite, ``[N]``.
    """
    (N, R), most = real.shape, max(of.most for of in selections)
    thresholds = [of.score_threshold for of in selections]
    rows = _which(real.flatten(), compact=compact)
    boxes = proposals.flatten(0, 1)[rows]
    rows, boxes, scores, bad = cascade(
        heads, levels, boxes, rows, sizes, thresholds, R, compact=compact
    )
    all_scores = scores.new_zeros(N * R, scores.shape[1]).index_copy_(0, rows, scores)
    all_scores.masked_fill_(real.view(-1, 1).logical_not(), 0)
    all_boxes = boxes.new_zeros(N * R, 4).index_copy_(0, rows, boxes)
    least = to_device(thresholds, sizes.device, torch.float32)
    found, score, classes = select(all_boxes.view(N, R, 4), all_scores.view(N, R, -1), least, most)
    parts = [(b[: of.most], s[: of.most], c[: of.most])
             for b, s, c, of in zip(found, score, classes, selections, strict=True)]  # fmt: skip
    masks = masks_of(heads, levels, parts, selections, bad, compact=compact)
    answers = [
        pack(*part, mask, of.most) for part, mask, of in zip(parts, masks, selections, strict=True)
    ]
    return answers, bad == 0


def cascade(
    heads: RoIHeads,
    levels: PooledLevels,
    boxes: Tensor,
    rows: Tensor,
    sizes: Tensor,
    thresholds: Sequence[float],
    of_image: int,
    *,
    compact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All stages of the box heads.

    A box's score is the mean of the stages' and each is at most 1, so that what can no longer
    exceed the threshold is left out of the stages that are left, where ``compact`` allows it.

    Args:
        heads: of the model.
        levels: of the images.
        boxes: ``[P, 4]``.
        rows: ``[P]``, numbers of the boxes, of which each image has ``of_image``.
        sizes: ``[N, 2]``.
        thresholds: of each image.
        of_image: boxes of an image.
        compact: whether boxes are left out.

    Returns:
        Of the Q boxes that are left their numbers ``[Q]``, boxes ``[Q, 4]`` and scores
        ``[Q, classes]``, and for each image ``[N]`` how often a box or its scores are not finite.
    """
    total = boxes.new_zeros(len(boxes), heads.num_classes + 1)
    bad = sizes.new_zeros(len(sizes))
    for stage in range(STAGES):
        if not len(boxes):
            break
        images = rows // of_image
        logits, _, boxes = heads.refine(stage, levels, boxes, images.int())
        finite = logits.isfinite().all(1) & boxes.isfinite().all(1)
        bad.index_add_(0, images, finite.logical_not().float())
        total += logits.softmax(1)
        boxes = clip(boxes, sizes[images])
        left = STAGES - 1 - stage
        needed = [STAGES * threshold - left - ROUNDING for threshold in thresholds]
        if compact and left and max(needed) > 0:
            of_box = to_device(needed, boxes.device, torch.float32)[images]
            able = (total[:, :-1].amax(1) > of_box).nonzero()[:, 0]
            rows, boxes, total = rows[able], boxes[able], total[able]
    return rows, boxes, total[:, :-1] / STAGES, bad


def masks_of(
    heads: RoIHeads,
    levels: PooledLevels,
    parts: Sequence[tuple[Tensor, Tensor, Tensor]],
    selections: Sequence[Selection],
    bad: Tensor,
    *,
    compact: bool,
) -> list[Tensor | None]:
    """The probabilities ``[n, 28, 28]`` of each image's detections, None where none are wanted.

    Args:
        heads: of the model.
        levels: of the images.
        parts: boxes ``[n, 4]``, scores ``[n]`` and classes ``[n]`` of each image.
        selections: which detections of each image are wanted.
        bad: ``[N]``, to which the masks that are not finite are added.
        compact: whether those that are no detections are left out.
    """
    those = [i for i, of in enumerate(selections) if of.masks]
    if not those:
        return [None] * len(parts)
    boxes, scores, classes = (
        torch.cat(of_all) for of_all in zip(*(parts[i] for i in those), strict=True)
    )
    lengths = [len(parts[i][0]) for i in those]
    images = torch.cat([torch.full_like(parts[i][2], i, dtype=torch.int32) for i in those])
    rows = _which(scores > 0, compact=compact)
    masks = boxes.new_zeros(len(boxes), heads.mask_side, heads.mask_side)
    if len(rows):
        logits = heads.mask_logits(levels, boxes[rows], images[rows], classes[rows])
        wrong = logits.isfinite().all(2).all(1).logical_not().float()
        bad.index_add_(0, images[rows], wrong)
        masks.index_copy_(0, rows, logits.sigmoid() * (scores[rows] > 0)[:, None, None])
    of_image = dict(zip(those, masks.split(lengths), strict=True))
    return [of_image.get(i) for i in range(len(parts))]


def _which(wanted: Tensor, *, compact: bool) -> Tensor:
    """The rows that are computed: those that are wanted, or all."""
    if compact:
        return wanted.nonzero()[:, 0]
    return torch.arange(len(wanted), device=wanted.device)
