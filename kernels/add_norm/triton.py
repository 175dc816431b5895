"""Residual add + RMSNorm for GPUs: a program is a few whole rows, read and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.add_norm.turn import Turn
from vimserve.kernels.triton_config import OPTIONS, norm_block
from vimserve.kernels.triton_turn import turn_pairs


@triton.jit(do_not_specialize=("T", "eps"))
def _add_norm(
    hidden, residual, weight, out, positions, rates, T, eps,
    D: tl.constexpr, ADD: tl.constexpr, TURN: tl.constexpr, TURN_SUM: tl.constexpr,
    BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    at = t[:, None] * D + d[None, :]
    mask = (t < T)[:, None] & (d < D)[None, :]
    total = tl.load(hidden + at, mask=mask, other=0.0).to(tl.float32)
    if TURN:
        down = tl.load(positions + 2 * t, mask=t < T, other=0.0)
        across = tl.load(positions + 2 * t + 1, mask=t < T, other=0.0)
        i = tl.arange(0, BD // 2)
        down_rates = tl.load(rates + i, mask=i < D // 2, other=0.0)
        across_rates = tl.load(rates + D // 2 + i, mask=i < D // 2, other=0.0)
        angle = down[:, None] * down_rates[None, :] + across[:, None] * across_rates[None, :]
    # Turning is linear: where both streams turn, turning their sum is the same.
    if TURN and not TURN_SUM:
        total = turn_pairs(total, angle)
    if ADD:
        total += tl.load(residual + at, mask=mask, other=0.0)
    if TURN and TURN_SUM:
        total = turn_pairs(total, angle)
    tl.store(residual + at, total, mask=mask)
    scale = tl.rsqrt(tl.sum(total * total, 1) / D + eps)
    gain = tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    tl.store(out + at, total * scale[:, None] * gain[None, :], mask=mask)


def add_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    turn: Turn | None = None,
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``."""
    T, D = hidden.shape
    out = torch.empty_like(hidden)
    summed = torch.empty_like(hidden, dtype=torch.float32) if residual is None else residual
    BT, BD = norm_block(D)
    _add_norm[(-(-T // BT),)](
        hidden, summed, weight, out,
        turn.positions if turn else None, turn.rates if turn else None, T, eps,
        D=D, ADD=residual is not None,
        TURN=turn is not None, TURN_SUM=turn is not None and turn.residual,
        BT=BT, BD=BD, num_warps=4, **OPTIONS,
    )  # fmt: skip
    return out, summed
