"""The reference: bilinear upsampling and arg max in plain PyTorch, with full-size buffers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vimserve.kernels.lerp import Lerp


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """See ``kernels.upsample_argmax``."""
    full = F.interpolate(scores[None].float(), size, mode="bilinear", align_corners=False)[0]
    return _likeliest(full, probability)


def upsample_argmax_by(
    scores: Tensor, rows: Lerp, columns: Lerp, *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """As ``upsample_argmax``, with tables for the result's rows and columns."""
    full = scores.float()
    full = torch.lerp(full[:, rows.first], full[:, rows.second], rows.fraction[:, None])
    full = torch.lerp(full[..., columns.first], full[..., columns.second], columns.fraction)
    return _likeliest(full, probability)


def _likeliest(full: Tensor, probability: bool) -> tuple[Tensor, Tensor | None]:
    classes = full.argmax(0).to(torch.uint8)
    return classes, full.softmax(0).amax(0) if probability else None
