"""Bilinear upsampling and arg max by PyTorch's operations, one whole buffer after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """See :func:`kernels.upsample_argmax.upsample_argmax`."""
    full = F.interpolate(scores[None].float(), size, mode="bilinear", align_corners=False)[0]
    classes = full.argmax(0).to(torch.uint8)
    return classes, full.softmax(0).amax(0) if probability else None
