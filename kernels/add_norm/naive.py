"""Residual add + RMSNorm in plain PyTorch: the reference."""

import torch
from torch import Tensor


def add_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``; computes in float32."""
    total = hidden.float() if residual is None else residual.add_(hidden.float())
    scale = torch.rsqrt(total.square().mean(-1, keepdim=True) + eps)
    return (total * scale * weight.float()).to(hidden.dtype), total
