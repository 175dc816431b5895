"""Upsampling, shifting and adding for GPUs: a program is a tile of columns that walks down rows.

Of each map and each row of taps it holds the two rows between which the output's row lies, with
their columns upsampled, shifted and added already. Walking down, it reads a row of a map once.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.triton_config import OPTIONS, walked_rows
from vimserve.kernels.triton_math import between

AT_ONCE = 4  # maps that a launch takes
COLUMNS, CHANNELS, WARPS = 4, 64, 4


@triton.jit
def _upsampled_columns(
    products, y, w, column, W, k, dy: tl.constexpr, K: tl.constexpr, C: tl.constexpr
):
    """Row y of a map at the output's columns: the sum over one row of taps, ``[columns, C]``."""
    step: tl.constexpr = K * K * C
    row = products + y.to(tl.int64) * w * step + dy * K * C
    total = tl.zeros((column.shape[0], k.shape[0]), tl.float32)
    for dx in tl.static_range(K):
        at = column + (dx - K // 2)
        inside = (at >= 0) & (at < W)
        left, right, g = between(at, w, W)
        mask = inside[:, None] & (k < C)[None, :]
        one = (left.to(tl.int64) * step + dx * C)[:, None] + k[None, :]
        other = (right.to(tl.int64) * step + dx * C)[:, None] + k[None, :]
        total += tl.load(row + one, mask=mask, other=0.0).to(tl.float32) * (1.0 - g)[:, None]
        total += tl.load(row + other, mask=mask, other=0.0).to(tl.float32) * g[:, None]
    return total


@triton.jit
def _start(begin, h, H, zeros, MAPS: tl.constexpr, K: tl.constexpr):
    """What is held before row ``begin``: two steps down read both rows that it lies between."""
    held = ()
    for i in tl.static_range(MAPS):
        for dy in tl.static_range(K):
            above = between(begin + (dy - K // 2), h[i], H)[0]
            held = held + ((above - 2, zeros, zeros),)
    return held


@triton.jit(
    do_not_specialize=(
        "H", "W", "h0", "w0", "h1", "w1", "h2", "w2", "h3", "w3", "of_image", "of_row", "of_pixel",
        "rows",
    )
)  # fmt: skip
def _upsample_add(
    x, bias, m0, m1, m2, m3, H, W, h0, w0, h1, w1, h2, w2, h3, w3,
    of_image: tl.int64, of_row: tl.int64, of_pixel: tl.int64, rows,
    MAPS: tl.constexpr, K: tl.constexpr, C: tl.constexpr, RELU: tl.constexpr,
    BX: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    # A grid of one dimension, because a large image can exceed the others' limit of 65,535.
    blocks: tl.constexpr = (C + BC - 1) // BC
    tiles, runs = tl.cdiv(W, BX), tl.cdiv(H, rows)
    place = tl.program_id(0) // blocks
    k = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    column = place % tiles * BX + tl.arange(0, BX)
    begin = place // tiles % runs * rows
    end = tl.minimum(begin + rows, H)
    n = (place // tiles // runs).to(tl.int64)
    mask = (column < W)[:, None] & (k < C)[None, :]
    x += n * of_image + begin.to(tl.int64) * of_row
    x += column.to(tl.int64)[:, None] * of_pixel + k[None, :]
    h, w = (h0, h1, h2, h3), (w0, w1, w2, w3)
    maps = ()
    for i in tl.static_range(MAPS):
        maps = maps + ((m0, m1, m2, m3)[i] + n * h[i] * w[i] * (K * K * C),)
    zeros = tl.zeros((BX, BC), tl.float32)
    start = zeros
    if bias is not None:
        start += tl.load(bias + k, mask=k < C, other=0.0).to(tl.float32)[None, :]
    held = _start(begin, h, H, zeros, MAPS, K)
    for y in range(begin, end):
        total = start + tl.load(x, mask=mask, other=0.0).to(tl.float32)
        next_held = ()
        for i in tl.static_range(MAPS):
            for dy in tl.static_range(K):
                at = y + (dy - K // 2)
                above, _, f = between(at, h[i], H)
                row, upper, lower = held[i * K + dy]
                while row < above:
                    row += 1
                    upper = lower
                    below = tl.minimum(row + 1, h[i] - 1)
                    lower = _upsampled_columns(maps[i], below, w[i], column, W, k, dy, K, C)
                inside = (at >= 0) & (at < H)
                total += tl.where(inside, 1.0 - f, 0.0) * upper
                total += tl.where(inside, f, 0.0) * lower
                next_held = next_held + ((row, upper, lower),)
        held = next_held
        if RELU:
            total = tl.where(total < 0.0, 0.0, total)
        tl.store(x, total.to(x.dtype.element_ty), mask=mask)
        x += of_row


def upsample_add(x: Tensor, maps: list[Tensor], bias: Tensor | None, *, relu: bool) -> None:
    """See ``kernels.upsample_add``."""
    if len(maps) > AT_ONCE:
        upsample_add(x, maps[:AT_ONCE], None, relu=False)
        upsample_add(x, maps[AT_ONCE:], bias, relu=relu)
        return
    N, H, W, C = x.shape
    maps = [products.contiguous() for products in maps]
    absent = AT_ONCE - len(maps)
    sizes = [size for products in maps for size in products.shape[1:3]]
    block = min(CHANNELS, max(16, triton.next_power_of_2(C)))
    tiles = N * -(-W // COLUMNS) * -(-C // block)
    rows = walked_rows(H, tiles, x.device)
    _upsample_add[(tiles * -(-H // rows),)](
        x, bias, *maps, *[None] * absent, H, W, *sizes, *[1] * 2 * absent, *x.stride()[:3], rows,
        MAPS=len(maps), K=math.isqrt(maps[0].shape[3]), C=C, RELU=relu, BX=COLUMNS, BC=block,
        num_warps=WARPS, **OPTIONS,
    )  # fmt: skip
