"""Convolution for CPUs. A task is a run of tokens, across all channels and directions."""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from vimserve.kernels.dispatch import require_float32
from vimserve.kernels.openmp import Kernel, floats, ints, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, shifted, silu, store

TAPS = 4
TOKENS = 16


@njit
def _convolve(begin, end, low, high, E, x, x_row, taps, bias, reverse, out):
    """Tokens begin..end of the sequence low..high; taps ``[TAPS, E]``."""
    back = x_row if reverse else -x_row
    for t in range(begin, end):
        before = high - 1 - t if reverse else t - low
        missing = TAPS - 1 - min(before, TAPS - 1)
        for e in range(0, E, LANES):
            y, at = load(bias, e), t * x_row + e
            if missing == 0:
                y = fma(load(taps, e), load(x, at + 3 * back), y)
                y = fma(load(taps, E + e), load(x, at + 2 * back), y)
                y = fma(load(taps, 2 * E + e), load(x, at + back), y)
                y = fma(load(taps, 3 * E + e), load(x, at), y)
            else:
                for j in range(missing, TAPS):
                    y = fma(load(taps, j * E + e), load(x, at + (TAPS - 1 - j) * back), y)
            store(out, t * E + e, silu(y))


@njit
def convolve_run(
    first, last, T, E, directions, sequences, reverse, cu_seqlens, x, x_row, taps, bias, out
):  # fmt: skip
    """Convolve tokens first..last in all directions; taps ``[K, TAPS, E]``, out ``[K, T, E]``."""
    for n in range(sequences):
        low, high = np.int64(cu_seqlens[n]), np.int64(cu_seqlens[n + 1])
        if high <= first or low >= last:
            continue
        for k in range(directions):
            _convolve(
                max(first, low), min(last, high), low, high, E, x, x_row,
                shifted(taps, k * TAPS * E), shifted(bias, k * E),
                (reverse >> k) & 1 != 0, shifted(out, k * T * E),
            )  # fmt: skip


@task_loop
def _conv(a):
    T, E, directions, sequences = a[2], a[3], a[4], a[5]
    cu_seqlens, x, x_row, taps, bias, reverse, out = (
        ints(a[6]), floats(a[7]), a[8], floats(a[9]), floats(a[10]), a[11], floats(a[12]),
    )  # fmt: skip
    while True:
        task = next_task(a)
        if task < 0:
            break
        convolve_run(
            task * TOKENS, min(task * TOKENS + TOKENS, T), T, E, directions, sequences, reverse,
            cu_seqlens, x, x_row, taps, bias, out,
        )  # fmt: skip


_kernel = Kernel(_conv)


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, reverse: Sequence[bool]
) -> Tensor:
    """See ``kernels.conv1d``."""
    T, E = x.shape
    require_float32(x=x, weight=weight, bias=bias)
    assert x.stride(1) == 1
    assert E % LANES == 0
    assert weight.shape[2] == TAPS
    taps = weight.transpose(1, 2).contiguous()
    out = torch.empty(len(reverse), T, E)
    flags = sum(1 << k for k, backward in enumerate(reverse) if backward)
    _kernel(
        -(-T // TOKENS), T, E, len(reverse), len(cu_seqlens) - 1,
        cu_seqlens, x, x.stride(0), taps, bias.contiguous(), flags, out,
    )  # fmt: skip
    return out
