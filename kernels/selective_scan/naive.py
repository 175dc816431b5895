"""The reference: the selective scan as the paper writes it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan(
    x: Tensor,
    dt: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    cu_seqlens: Tensor,
    reverse: Sequence[bool],
    *,
    side_by_side: bool = False,
    max_seqlen: int | None = None,  # noqa: ARG001
) -> Tensor:
    """See ``kernels.selective_scan``; computes in float32."""
    y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    for k, backward in enumerate(reverse):
        step = F.softplus(dt[k].float() @ dt_weight[k].float().T + dt_bias[k].float())
        x_k, B_k, C_k = x[k].float(), B[k].float(), C[k].float()
        for begin, end in pairwise(cu_seqlens.tolist()):
            h = torch.zeros_like(A[k])
            for t in reversed(range(begin, end)) if backward else range(begin, end):
                decay = torch.exp(step[t, :, None] * A[k])
                h = decay * h + (step[t] * x_k[t])[:, None] * B_k[t]
                y[k, t] = h @ C_k[t] + D[k] * x_k[t]
    y = y.transpose(0, 1).flatten(1) if side_by_side else y.sum(0)
    gate = F.silu(z.float())
    return (y * gate.repeat(1, y.shape[1] // gate.shape[1])).to(x.dtype)
