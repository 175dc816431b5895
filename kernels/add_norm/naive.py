"""Residual add + RMSNorm in plain PyTorch: the reference."""

import torch
from torch import Tensor

from vimserve.kernels.add_norm.turn import Turn


def add_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    turn: Turn | None = None,
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``; computes in float32."""
    added = hidden.float()
    if turn:
        added = _turned(added, turn)
        if residual is not None and turn.residual:
            residual.copy_(_turned(residual, turn))
    total = added if residual is None else residual.add_(added)
    scale = torch.rsqrt(total.square().mean(-1, keepdim=True) + eps)
    return (total * scale * weight.float()).to(hidden.dtype), total


def _turned(x: Tensor, turn: Turn) -> Tensor:
    (down, across), rates = turn.positions.split(1, 1), turn.rates
    angles = down * rates[0] + across * rates[1]
    cos, sin = angles.cos(), angles.sin()
    a, b = x.unflatten(1, (-1, 2)).unbind(2)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), 2).flatten(1)
