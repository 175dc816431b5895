"""Bilinear upsampling of class scores + arg max, without storing the upsampled scores."""

from torch import Tensor

from vimserve.kernels.checks import FLOATS
from vimserve.kernels.dispatch import implementation

MOST_CLASSES = 256


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The likeliest class of every pixel, from class scores on a coarser or finer grid.

    The scores are interpolated in float32 as ``torch.nn.functional.interpolate`` does with
    ``mode="bilinear"`` and ``align_corners=False``. Of equal scores the lowest class wins.

    Args:
        scores: ``[K, h, w]``, K at most 256. Fastest where the classes of a position lie side by
            side, as in a channels-last image; any other layout is copied first.
        size: (height, width) of the result.
        probability: whether to return the winners' probabilities: the softmax over the
            interpolated scores.

    Returns:
        Classes, uint8 ``[H, W]``; probabilities, float32 ``[H, W]``, or None.

    Raises:
        ValueError: if a shape, size or dtype is not supported; the message names it.
    """
    if scores.ndim != 3 or 0 in scores.shape or scores.shape[0] > MOST_CLASSES:
        raise ValueError(
            f"scores must be [K, h, w] with 1 to {MOST_CLASSES} classes and at least one position, "
            f"not {list(scores.shape)}"
        )
    if scores.dtype not in FLOATS:
        raise ValueError(f"scores must be float32, float16 or bfloat16, not {scores.dtype}")
    if min(size) < 1:
        raise ValueError(f"size must have at least one row and one column, not {tuple(size)}")
    return implementation("upsample_argmax", scores.device.type)(
        scores, size, probability=probability
    )
