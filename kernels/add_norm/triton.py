"""Residual add + RMSNorm for GPUs: a program is a few whole rows, read and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.triton_config import OPTIONS, norm_block


@triton.jit(do_not_specialize=("T", "eps"))
def _add_norm(
    hidden, residual, weight, out, T, eps,
    D: tl.constexpr, ADD: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    at = t[:, None] * D + d[None, :]
    mask = (t < T)[:, None] & (d < D)[None, :]
    total = tl.load(hidden + at, mask=mask, other=0.0).to(tl.float32)
    if ADD:
        total += tl.load(residual + at, mask=mask, other=0.0)
    tl.store(residual + at, total, mask=mask)
    scale = tl.rsqrt(tl.sum(total * total, 1) / D + eps)
    gain = tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    tl.store(out + at, total * scale[:, None] * gain[None, :], mask=mask)


def add_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``."""
    T, D = hidden.shape
    out = torch.empty_like(hidden)
    summed = torch.empty_like(hidden, dtype=torch.float32) if residual is None else residual
    BT, BD = norm_block(D)
    _add_norm[(-(-T // BT),)](
        hidden, summed, weight, out, T, eps,
        D=D, ADD=residual is not None, BT=BT, BD=BD, num_warps=4, **OPTIONS,
    )  # fmt: skip
    return out, summed
