"""The reference: greedy suppression in plain PyTorch, one place of all groups at a time."""

from torch import Tensor


def nms(boxes: Tensor, order: Tensor, threshold: float) -> Tensor:
    """See ``kernels.nms``."""
    kept = (order >= 0).cumprod(1).bool()
    own = boxes[order.clamp(min=0).long()]
    for i in range(order.shape[1] - 1):
        overlaps = _iou(own[:, i : i + 1], own[:, i + 1 :]) > threshold
        kept[:, i + 1 :] &= ~(overlaps & kept[:, i : i + 1])
    return kept


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union; of two boxes without area it is not a number."""
    width = a[..., 2].minimum(b[..., 2]) - a[..., 0].maximum(b[..., 0])
    height = a[..., 3].minimum(b[..., 3]) - a[..., 1].maximum(b[..., 1])
    shared = width.clamp(min=0) * height.clamp(min=0)
    return shared / (_area(a) + _area(b) - shared)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
