"""Instance masks of a fixed size pasted into a picture, as run lengths."""

import torch
from torch import Tensor

from vimserve.kernels.checks import check_tensor
from vimserve.kernels.dispatch import implementation

MOST_PIXELS = 2**31 - 1  # run lengths are int32
MOST_SIDE = 2**24  # coordinates are float32


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Which pixels of a picture belong to each instance.

    A mask is stretched over its box and interpolated at the middle of every pixel, as
    ``torch.nn.functional.grid_sample`` does with ``align_corners=False`` and zeros outside. The
    pixels where it reaches the threshold are the instance's. They are returned in COCO's
    uncompressed run-length encoding: down the columns, first a run that does not belong to the
    instance (of length 0 if the first pixel does), then runs in turn.

    Args:
        masks: float32 ``[R, S, S]`` probabilities; NaN counts as 0.
        boxes: float32 ``[R, 4]``: left, top, right, bottom in pixels, which may reach outside. An
            instance whose box is empty or not finite has no pixels.
        size: (height, width) of the picture, at most 2^24 pixels each and 2^31 - 1 together.
        threshold: above 0, at most 1.

    Returns:
        Run lengths, int32 ``[total]``, those of one instance after those of another; int32
        ``[R + 1]``: where each instance's begin, and the total.

    Raises:
        ValueError: if a shape, dtype, layout, the size or the threshold is wrong; the message names
            it.
    """
    if masks.ndim != 3 or masks.shape[1] != masks.shape[2] or not masks.shape[2]:
        raise ValueError(f"masks must be [R, S, S] with S at least 1, not {list(masks.shape)}")
    R, device = len(masks), masks.device
    check_tensor("masks", masks, "R, S, S", tuple(masks.shape), device, (torch.float32,))
    check_tensor("boxes", boxes, "R, 4", (R, 4), device, (torch.float32,))
    height, width = size
    if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
        raise ValueError(f"size must be 1 to {MOST_SIDE} pixels high and wide, not {tuple(size)}")
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"size must have at most {MOST_PIXELS} pixels, not {height} x {width} = "
            f"{height * width}"
        )
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    if not R:
        empty = torch.zeros(1, dtype=torch.int32, device=device)
        return empty[:0], empty
    masks = masks.nan_to_num(0).clamp(0, 1)
    return implementation("paste_masks", device.type)(masks, boxes, size, threshold)
