"""The reference: every map upsampled to full size in plain PyTorch."""

import math

import torch.nn.functional as F
from torch import Tensor


def upsample_add(x: Tensor, maps: list[Tensor], bias: Tensor | None, *, relu: bool) -> None:
    """See ``kernels.upsample_add``."""
    H, W = x.shape[1:3]
    total = x.float() if bias is None else x.float() + bias.float()
    for products in maps:
        side = math.isqrt(products.shape[3])
        border = side // 2
        for tap, image in enumerate(products.float().unbind(3)):
            full = F.interpolate(
                image.permute(0, 3, 1, 2), (H, W), mode="bilinear", align_corners=False
            )
            top, left = divmod(tap, side)
            shifted = F.pad(full, [border] * 4)[:, :, top : top + H, left : left + W]
            total = total + shifted.permute(0, 2, 3, 1)
    x.copy_(total.relu() if relu else total)
