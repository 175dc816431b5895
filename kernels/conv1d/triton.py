"""Convolution for GPUs: a program is a tile of tokens by channels, in all directions.

The tile is read once for each distance between input and output, of which there are up to seven.
All reads but the first hit the cache.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.triton_config import OPTIONS, conv_block
from vimserve.kernels.triton_math import find_sequence, silu

TAPS = tl.constexpr(4)


@triton.jit(do_not_specialize=("T", "N", "rounds"))
def _convolve(
    x, weight, bias, cu_seqlens, out, T, N, rounds,
    x_row: tl.constexpr, E: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr,
    BT: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    e = tl.program_id(1) * BE + tl.arange(0, BE)
    n = find_sequence(cu_seqlens, N, rounds, t)
    low, high = tl.load(cu_seqlens + n), tl.load(cu_seqlens + n + 1)
    row = t.to(tl.int64)[:, None]
    p_x = x + row * x_row + e[None, :]
    for k in tl.static_range(K):
        toward = 2 * ((REVERSE >> k) & 1) - 1
        channel = k * E + e
        y = tl.load(bias + channel).to(tl.float32)[None, :] + tl.zeros([BT, BE], tl.float32)
        for j in tl.static_range(TAPS):
            source = t + toward * (TAPS - 1 - j)
            inside = (source >= low) & (source < high) & (t < T)
            tap = tl.load(weight + channel * TAPS + j).to(tl.float32)[None, :]
            b_x = tl.load(
                p_x + toward * (TAPS - 1 - j) * x_row, mask=inside[:, None], other=0.0
            ).to(tl.float32)
            y += tap * b_x
        p_out = out + (k * T + row) * E + e[None, :]
        tl.store(p_out, silu(y), mask=(t < T)[:, None])


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, reverse: Sequence[bool]
) -> Tensor:
    """See ``kernels.conv1d``. Weights that are not contiguous are copied at every call."""
    (T, E), K, N = x.shape, len(reverse), len(cu_seqlens) - 1
    out = torch.empty(K, T, E, dtype=x.dtype, device=x.device)
    BT, BE = conv_block(E)
    _convolve[-(-T // BT), E // BE](
        x, weight.contiguous(), bias.contiguous(), cu_seqlens, out, T, N, N.bit_length(),
        x_row=x.stride(0), E=E, K=K,
        REVERSE=sum(1 << k for k, backward in enumerate(reverse) if backward),
        BT=BT, BE=BE, num_warps=4, **OPTIONS,
    )  # fmt: skip
    return out
