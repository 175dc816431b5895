"""The reference: masks sampled at every pixel of the picture, compared, then encoded."""

import torch
import torch.nn.functional as F
from torch import Tensor


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """See ``kernels.paste_masks``."""
    return encode(probabilities(masks, boxes, size) >= threshold)


def probabilities(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """``[R, H, W]``: each mask at the middle of every pixel; 0 where its box is no box."""
    H, W = size
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    sound = boxes.isfinite().all(1, keepdim=True) & (right > left) & (bottom > top)
    across = torch.arange(W, device=boxes.device) + 0.5
    down = torch.arange(H, device=boxes.device) + 0.5
    outside = torch.full_like(left, -2)
    x = torch.where(sound, (across - left) / (right - left) * 2 - 1, outside)
    y = torch.where(sound, (down - top) / (bottom - top) * 2 - 1, outside)
    grid = torch.stack([x[:, None].expand(-1, H, -1), y[:, :, None].expand(-1, -1, W)], 3)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def encode(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Run lengths of bool ``[R, H, W]``, and where each picture's begin."""
    pixels = F.pad(inside.mT.flatten(1), (1, 0))  # what comes before the first is outside
    changes = F.pad(pixels.diff(dim=1), (0, 1), value=True)  # and the last run ends with them
    _, end = changes.nonzero(as_tuple=True)
    starts = F.pad(changes.sum(1).cumsum(0), (1, 0))
    return run_lengths(end, starts).int(), starts.int()


def run_lengths(ends: Tensor, starts: Tensor) -> Tensor:
    """``[total]``: from one end of a run to the next, beginning anew at each of int64 ``starts``.

    Args:
        ends: ``[total]``: the pixel behind each run, numbered within its picture.
        starts: ``[R + 1]``: where each picture's begin, and the total.
    """
    lengths = ends.diff(prepend=ends.new_zeros(1))
    lengths[starts[:-1]] = ends[starts[:-1]]
    return lengths
