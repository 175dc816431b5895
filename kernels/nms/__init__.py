"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays."""

import torch
from torch import Tensor

from vimserve.kernels.checks import check_tensor
from vimserve.kernels.dispatch import implementation


def nms(boxes: Tensor, order: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression within each of several groups.

    In the order given, a box is kept if its intersection over union (IoU) with no kept box before
    it exceeds the threshold. All is computed in float32. A box without area, or one whose
    coordinates or area are not finite, suppresses nothing, and nothing suppresses it.

    Args:
        boxes: float32 ``[B, 4]``: left, top, right, bottom.
        order: int32 ``[G, M]``: the rows of ``boxes`` that are in each group, by descending score,
            and -1 behind the last. Equal scores are in the caller's order. A box may be in several
            groups.
        threshold: 0 to 1.

    Returns:
        bool ``[G, M]``: which entries of ``order`` are kept.

    Raises:
        ValueError: if a shape, dtype, layout, the threshold or, in host memory, a row number is
            wrong; the message names it.
    """
    if boxes.ndim != 2:
        raise ValueError(f"boxes must be [B, 4], not {list(boxes.shape)}")
    if order.ndim != 2:
        raise ValueError(f"order must be [G, M], not {list(order.shape)}")
    B, device = len(boxes), boxes.device
    check_tensor("boxes", boxes, "B, 4", (B, 4), device, (torch.float32,))
    check_tensor("order", order, "G, M", tuple(order.shape), device, (torch.int32,))
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1, not {threshold}")
    if device.type == "cpu" and order.numel() and order.max() >= B:
        raise ValueError(f"order must be below the {B} rows of boxes, but has {order.max()}")
    if not order.numel() or not B:
        return torch.zeros_like(order, dtype=torch.bool)
    return implementation("nms", device.type)(boxes, order, threshold)
