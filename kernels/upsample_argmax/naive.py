"""The reference: bilinear upsampling and arg max in plain PyTorch, with full-size buffers."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """See ``kernels.upsample_argmax``."""
    full = F.interpolate(scores[None].float(), size, mode="bilinear", align_corners=False)[0]
    classes = full.argmax(0).to(torch.uint8)
    return classes, full.softmax(0).amax(0) if probability else None
