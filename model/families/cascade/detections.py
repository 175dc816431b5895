"""Which boxes of which classes are detections."""

import torch
from torch import Tensor

from vimserve.kernels.nms import nms

OVERLAP = 0.5


def select(
    boxes: Tensor, scores: Tensor, thresholds: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best detections, of those that overlap in a class only the best one.

    Leaving out what scores too little before the suppression changes nothing, because no box is
    suppressed by one that scores less.

    Args:
        boxes: ``[N, R, 4]``.
        scores: ``[N, R, classes]``; boxes that are none have zeros.
        thresholds: ``[N]``: detections must score more.
        most: detections of an image.

    Returns:
        Boxes ``[N, most, 4]``, scores ``[N, most]`` in descending order and classes ``[N, most]``;
        zeros behind the last.
    """
    N, R, K = scores.shape
    good = scores.isfinite() & boxes.isfinite().all(2, keepdim=True)
    good &= scores > thresholds[:, None, None]
    by_class = scores.where(good, 0).transpose(1, 2).contiguous()  # [N, K, R]
    ordered, row = by_class.sort(dim=2, descending=True, stable=True)
    first = torch.arange(N, dtype=torch.int32, device=row.device) * R
    order = (row.int() + first[:, None, None]).where(ordered > 0, -1)
    kept = nms(boxes.flatten(0, 1), order.flatten(0, 1), OVERLAP).view_as(order)
    best, index = ordered.where(kept, 0).flatten(1).topk(min(most, K * R))
    box = row.flatten(1).gather(1, index)
    chosen = boxes.gather(1, box[..., None].expand(-1, -1, 4)).where(best[..., None] > 0, 0)
    return chosen, best, (index // R).where(best > 0, 0)
