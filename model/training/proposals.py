"""What a detector is taught by: which anchors and boxes stand for which objects."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vimserve.model.families.cascade.boxes import clip, decode
from vimserve.model.families.cascade.rpn import OVERLAP, WEIGHTS
from vimserve.model.training.boxes import areas, iou, unsuppressed

MOST_OF_LEVEL, MOST = 200, 200
POSITIVE_ANCHOR, NEGATIVE_ANCHOR = 0.7, 0.3
IGNORED, NEGATIVE = -2, -1


class Objects(NamedTuple):
    """What is to be found in one picture: at least one object.

    Attributes:
        boxes: ``[n, 4]`` float32.
        classes: ``[n]`` int64.
        masks: ``[n, H, W]`` bool.
    """

    boxes: Tensor
    classes: Tensor
    masks: Tensor


class Sampled(NamedTuple):
    """Boxes of one picture that a stage learns from.

    Attributes:
        boxes: ``[R, 4]``.
        objects: ``[R]``, the index of the object that each stands for, or ``NEGATIVE``.
    """

    boxes: Tensor
    objects: Tensor


def match_anchors(anchors: Tensor, objects: Tensor) -> Tensor:
    """Of every anchor ``[A, 4]`` the index of its object, ``NEGATIVE`` or ``IGNORED``.

    The anchors that overlap an object most are its own, however little that is.
    """
    overlaps = iou(anchors, objects)
    best, index = overlaps.max(1)
    matched = torch.where(best >= POSITIVE_ANCHOR, index, IGNORED)
    matched[best < NEGATIVE_ANCHOR] = NEGATIVE
    own = (overlaps == overlaps.amax(0)) & (overlaps > 0)
    return torch.where(own.any(1), own.long().argmax(1), matched)


def match(boxes: Tensor, objects: Tensor, threshold: float) -> Tensor:
    """Of every box ``[R, 4]`` the index of the object that it overlaps most, or ``NEGATIVE``."""
    best, index = iou(boxes, objects).max(1)
    return torch.where(best >= threshold, index, NEGATIVE)


def sample(matched: Tensor, count: int, positive: float) -> Tensor:
    """Indices of about ``count`` that are not ignored, at most that share of them positive."""
    positives = (matched >= 0).nonzero().flatten()
    negatives = (matched == NEGATIVE).nonzero().flatten()
    positives = some(positives, round(count * positive))
    return torch.cat((positives, some(negatives, count - len(positives))))


def some(indices: Tensor, most: int) -> Tensor:
    """At most so many of indices ``[n]``, at random."""
    if len(indices) <= most:
        return indices
    if len(indices) > 100 * most:  # far cheaper than a permutation, and hardly any comes twice
        return indices[torch.randint(len(indices), (most,))]
    return indices[torch.randperm(len(indices))[:most]]


@torch.no_grad()
def propose(
    levels: Sequence[tuple[Tensor, Tensor]], anchors: Sequence[Tensor], size: Tensor
) -> list[Tensor]:
    """The best boxes of each image ``[n, 4]``, chosen as the server does, but fewer.

    Args:
        levels: logits ``[N, A]`` and deltas ``[N, A, 4]`` of each.
        anchors: ``[A, 4]`` of each level.
        size: ``[2]``, height and width that boxes are clipped to.
    """
    proposals = []
    for image in range(len(levels[0][0])):
        scores, boxes = [], []
        for (logits, deltas), places in zip(levels, anchors, strict=True):
            best, index = logits[image].topk(min(MOST_OF_LEVEL, logits.shape[1]))
            decoded = clip(decode(deltas[image, index], places[index], WEIGHTS), size)
            seen = areas(decoded) > 0
            best, decoded = best[seen], decoded[seen]
            kept = unsuppressed(decoded, OVERLAP)
            scores.append(best[kept])
            boxes.append(decoded[kept])
        _, order = torch.cat(scores).sort(descending=True)
        proposals.append(torch.cat(boxes)[order[:MOST]])
    return proposals
