"""Selective scan for CPUs. A task is a block of channels of one sequence, in all directions.

It walks the sequence in tiles. It computes a tile's step sizes and scaled inputs into a buffer that
stays in the cache, then takes some states of 16 channels at a time through the tile in registers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.dispatch import require_float32
from vimserve.kernels.openmp import Kernel, floats, ints, next_task, task_loop
from vimserve.kernels.selective_scan.states import (
    UNROLL,
    advance,
    load_block,
    read_out,
    store_block,
)
from vimserve.kernels.simd import (
    LANES,
    LOG2_E,
    fma,
    load,
    pointer,
    prefetch,
    shifted,
    silu,
    softplus,
    splat,
    store,
)

BLOCK = 32
TILE = 32


@njit
def _scan_tile(
    tokens, first, step, width, S, A, h, dt, dtx, y, b, b_row, c, c_row,
    x_next, x_row, z_next, z_row, out_next, out_row,
):  # fmt: skip
    """Add C·h to ``y`` for every token of a tile and leave the states in ``h``.

    Meanwhile the next tile's rows, which lie far apart, are fetched into the cache.

    A and h are ``[S, BLOCK]``, dt, dtx and y ``[TILE, BLOCK]``; b and c point at the tile's first
    token.
    """
    for e in range(0, width, LANES):
        for s in range(0, S, UNROLL):
            rates = load_block(A, s * BLOCK + e, BLOCK)
            states = load_block(h, s * BLOCK + e, BLOCK)
            for i in range(tokens):
                t = first + step * i
                at = t * BLOCK + e
                if s == 0:
                    prefetch(x_next, t * x_row + e)
                    prefetch(z_next, t * z_row + e)
                    prefetch(out_next, t * out_row + e)
                states = advance(states, rates, load(dt, at), load(dtx, at), b, t * b_row + s)
                store(y, at, read_out(load(y, at), states, c, t * c_row + s))
            store_block(h, s * BLOCK + e, BLOCK, states)


@njit
def _prepare_tile(tokens, width, R, x, x_row, low, low_row, weight, bias, skip, dt, dtx, y):
    """Compute dt = softplus(bias + low · weight), dtx = dt * x and y = skip * x."""
    for t in range(tokens):
        for e in range(0, width, LANES):
            step = load(bias, e)
            for r in range(R):
                step = fma(splat(low[t * low_row + r]), load(weight, r * BLOCK + e), step)
            step = softplus(step)
            value = load(x, t * x_row + e)
            store(dt, t * BLOCK + e, step)
            store(dtx, t * BLOCK + e, step * value)
            store(y, t * BLOCK + e, load(skip, e) * value)


@njit
def _finish_tile(tokens, width, y, z, z_row, out, out_row, first, last):
    """Add a direction's ``y`` to ``out``; the last direction applies the gate."""
    for t in range(tokens):
        for e in range(0, width, LANES):
            value = load(y, t * BLOCK + e)
            if not first:
                value = value + load(out, t * out_row + e)
            if last:
                value = value * silu(load(z, t * z_row + e))
            store(out, t * out_row + e, value)


@njit
def scan_tasks(a):
    """Take and do tasks of a scan, given ``scan_arguments``."""
    E, S, R, directions, reverse = a[2], a[3], a[4], a[5], a[6]
    cu_seqlens, z, z_row = ints(a[7]), floats(a[8]), a[9]
    out_all, out_row, apart = floats(a[10]), a[11], a[12] != 0
    # Tensors with a direction axis: address, stride of the directions, stride of the rows.
    x_all, x_way, x_row = floats(a[13]), a[14], a[15]
    dt_all, dt_way, dt_row = floats(a[16]), a[17], a[18]
    b_all, b_way, b_row = floats(a[19]), a[20], a[21]
    c_all, c_way, c_row = floats(a[22]), a[23], a[24]
    weight_all, weight_way, bias_all, bias_way = floats(a[25]), a[26], floats(a[27]), a[28]
    rate_all, rate_way, skip_all, skip_way = floats(a[29]), a[30], floats(a[31]), a[32]

    blocks = (E + BLOCK - 1) // BLOCK
    scratch = np.empty((2 * S + R + 2 + 3 * TILE, BLOCK), dtype=np.float32)
    A, h, weight, vectors = (
        scratch[:S], scratch[S : 2 * S], scratch[2 * S : 2 * S + R], scratch[2 * S + R :],
    )  # fmt: skip
    bias, skip = pointer(vectors), pointer(vectors[1:])
    dt, dtx, y = (
        pointer(vectors[2:]),
        pointer(vectors[2 + TILE :]),
        pointer(vectors[2 + 2 * TILE :]),
    )
    while True:
        task = next_task(a)
        if task < 0:
            break
        begin = np.int64(cu_seqlens[task // blocks])
        end = np.int64(cu_seqlens[task // blocks + 1])
        channel = task % blocks * BLOCK
        width = min(BLOCK, E - channel)
        tiles = (end - begin + TILE - 1) // TILE
        for k in range(directions):
            back = (reverse >> k) & 1 != 0
            x, low = shifted(x_all, k * x_way + channel), shifted(dt_all, k * dt_way)
            b, c = shifted(b_all, k * b_way), shifted(c_all, k * c_way)
            out = shifted(out_all, channel + (k * E if apart else 0))
            for e in range(width):
                of_weight = k * weight_way + (channel + e) * R
                of_rate = k * rate_way + (channel + e) * S
                for s in range(S):
                    A[s, e] = rate_all[of_rate + s] * float32(LOG2_E)
                for r in range(R):
                    weight[r, e] = weight_all[of_weight + r]
                vectors[0, e] = bias_all[k * bias_way + channel + e]
                vectors[1, e] = skip_all[k * skip_way + channel + e]
            h[:] = 0
            for tile in range(tiles):
                t = begin + TILE * (tiles - 1 - tile if back else tile)
                t_next = t - TILE if back else t + TILE
                tokens = min(TILE, end - t)
                _prepare_tile(
                    tokens, width, R, shifted(x, t * x_row), x_row,
                    shifted(low, t * dt_row), dt_row, pointer(weight), bias, skip, dt, dtx, y,
                )  # fmt: skip
                _scan_tile(
                    tokens, tokens - 1 if back else 0, -1 if back else 1, width, S,
                    pointer(A), pointer(h), dt, dtx, y,
                    shifted(b, t * b_row), b_row, shifted(c, t * c_row), c_row,
                    shifted(x, t_next * x_row), x_row,
                    shifted(z, t_next * z_row + channel), z_row,
                    shifted(out, t_next * out_row), out_row,
                )  # fmt: skip
                _finish_tile(
                    tokens, width, y, shifted(z, t * z_row + channel), z_row,
                    shifted(out, t * out_row), out_row,
                    apart or k == 0, apart or k == directions - 1,
                )  # fmt: skip


@task_loop
def _scan(a):
    scan_tasks(a)


_kernel = Kernel(_scan)


def scan_arguments(
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
    out: Tensor,
    *,
    side_by_side: bool = False,
) -> tuple[int, list[Tensor | int]]:
    """The number of tasks of a scan that writes to ``out``, and what ``scan_tasks`` reads."""
    directions, _, E = x.shape
    S, R = A.shape[-1], dt_weight.shape[-1]
    assert E % LANES == 0
    assert S % UNROLL == 0
    assert all(rows.stride(-1) == 1 for rows in (x, dt, B, C, z, dt_weight, dt_bias, A, D))
    assert dt_weight.stride(1) == R
    assert A.stride(1) == S
    flags = sum(1 << k for k, back in enumerate(reverse) if back)
    arguments: list[Tensor | int] = [
        E, S, R, directions, flags, cu_seqlens, z, z.stride(0), out, out.stride(0),
        int(side_by_side),
    ]  # fmt: skip
    for rows in (x, dt, B, C):
        arguments += [rows, rows.stride(0), rows.stride(1)]
    for weight in (dt_weight, dt_bias, A, D):
        arguments += [weight, weight.stride(0)]
    return (len(cu_seqlens) - 1) * -(-E // BLOCK), arguments


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
    """See ``kernels.selective_scan``."""
    require_float32(x=x, dt=dt, dt_weight=dt_weight, dt_bias=dt_bias, A=A, B=B, C=C, D=D, z=z)
    directions, _, E = x.shape
    out = torch.empty(len(z), directions * E if side_by_side else E)
    tasks, arguments = scan_arguments(
        x, dt, dt_weight, dt_bias, A, B, C, D, z, cu_seqlens, reverse, out,
        side_by_side=side_by_side,
    )  # fmt: skip
    _kernel(tasks, *arguments)
    return out
