"""Pooling regions for GPUs: a program is a row of a box's bins, for a block of channels.

As on a CPU, a pixel counts with a weight of its row and one of its column. A program has those of
its columns in registers and walks down the rows.
"""

import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.triton_config import OPTIONS, region_block

AT_ONCE = 4  # levels that a launch takes
COLUMNS, WARPS = 4, 4  # of each bin that are read at a time


@triton.jit
def _axis(low, high, stride, SIZE: tl.constexpr):
    """Where a box begins on an axis, in pixels of its level, and how long a bin is."""
    start = tl.div_rn(low, stride) - 0.5
    end = tl.div_rn(high, stride) - 0.5
    return start, tl.div_rn(end - start, SIZE * 1.0)


@triton.jit
def _span(start, bin_, p, length):
    """The first of the pixels that bin ``p`` needs, how many there are at most, and its samples."""
    grid = tl.ceil(bin_)
    first = tl.floor(start + p.to(tl.float32) * bin_ + tl.div_rn(0.5 * bin_, grid))
    first = tl.minimum(tl.maximum(first, 0.0), length - 1.0).to(tl.int32)
    return first, tl.minimum(grid + 1.0, length.to(tl.float32)).to(tl.int32), grid


@triton.jit
def _weight(pixel, length, start, bin_, p, grid):
    """With what weight a pixel counts in bin ``p`` along an axis."""
    origin = start + p.to(tl.float32) * bin_
    step = tl.div_rn(bin_, grid)
    pixel = pixel.to(tl.float32)
    # The samples that are less than a pixel away: at least half a pixel apart, so at most four.
    first = tl.ceil((pixel - 1.0 - origin) / step - 0.5)
    first = tl.maximum(first, 0.0)
    total = pixel * 0.0
    for j in tl.static_range(4):
        at = origin + (first + (j + 0.5)) * step
        inside = (first + j < grid) & (at >= -1.0) & (at <= length)
        at = tl.minimum(tl.maximum(at, 0.0), length - 1.0)
        total += tl.where(inside, tl.maximum(1.0 - tl.abs(at - pixel), 0.0), 0.0)
    return tl.div_rn(total, grid)


@triton.jit(do_not_specialize=("t0", "t1", "t2", "t3", "N", "beginning"))
def _roi_align(
    m0, m1, m2, m3, t0, t1, t2, t3, places, boxes, images, levels, out, N, beginning,
    LEVELS: tl.constexpr, C: tl.constexpr, SIZE: tl.constexpr,
    BQ: tl.constexpr, BX: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    blocks: tl.constexpr = (C + BC - 1) // BC
    k = tl.program_id(0) % blocks * BC + tl.arange(0, BC)[None, None, :]
    p = tl.program_id(0) // blocks % SIZE
    r = (tl.program_id(0) // blocks // SIZE).to(tl.int64)
    level = tl.load(levels + r) - beginning
    if (level < 0) | (level >= LEVELS):
        return
    place = places + ((level + beginning) * N + tl.load(images + r)) * 3
    image, stride = m0, t0
    for i in tl.static_range(1, LEVELS):
        image = tl.where(level == i, (m0, m1, m2, m3)[i], image)
        stride = tl.where(level == i, (t0, t1, t2, t3)[i], stride)
    height, width = tl.load(place + 1), tl.load(place + 2)
    image += tl.load(place).to(tl.int64) * C
    stride = stride.to(tl.float32)
    left, bin_x = _axis(tl.load(boxes + 4 * r), tl.load(boxes + 4 * r + 2), stride, SIZE)
    top, bin_y = _axis(tl.load(boxes + 4 * r + 1), tl.load(boxes + 4 * r + 3), stride, SIZE)
    infinite = float("inf")
    full = (bin_x > 0.0) & (bin_x < infinite) & (bin_y > 0.0) & (bin_y < infinite)
    left, bin_x = tl.where(full, left, 0.0), tl.where(full, bin_x, 1.0)
    top, bin_y = tl.where(full, top, 0.0), tl.where(full, bin_y, 1.0)

    q = tl.arange(0, BQ)[:, None, None]
    first_x, columns, grid_x = _span(left, bin_x, q, width)
    first_y, rows, grid_y = _span(top, bin_y, p, height)
    rows = tl.where(full, tl.minimum(rows, height - first_y), 0)
    total = tl.zeros((BQ, BX, BC), tl.float32)
    for begin in range(0, columns, BX):
        x = first_x + begin + tl.arange(0, BX)[None, :, None]
        across = _weight(x, width, left, bin_x, q, grid_x)
        inside = (q < SIZE) & (x < width) & (k < C)
        for v in range(rows):
            y = first_y + v
            weight = across * _weight(y, height, top, bin_y, p, grid_y)
            pixels = image + (y * width + x).to(tl.int64) * C + k
            values = tl.load(pixels, mask=inside & (weight > 0.0), other=0.0).to(tl.float32)
            total += values * weight
    bins = (r * SIZE + p) * SIZE + tl.arange(0, BQ)[:, None]
    channel = tl.program_id(0) % blocks * BC + tl.arange(0, BC)[None, :]
    mask = (tl.arange(0, BQ)[:, None] < SIZE) & (channel < C)
    pooled = tl.sum(total, axis=1)
    tl.store(out + bins * C + channel, pooled.to(out.dtype.element_ty), mask=mask)


def roi_align(
    maps: list[Tensor],
    places: Tensor,
    strides: list[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    size: int,
) -> Tensor:
    """See ``kernels.roi_align``; a launch takes four levels."""
    R, C = len(boxes), maps[0].shape[1]
    out = maps[0].new_empty(R, size, size, C)
    bins = triton.next_power_of_2(size)
    block = region_block(C, bins * COLUMNS)
    for beginning in range(0, len(maps), AT_ONCE):
        taken = [pixels.contiguous() for pixels in maps[beginning : beginning + AT_ONCE]]
        absent = AT_ONCE - len(taken)
        _roi_align[(R * size * -(-C // block),)](
            *taken, *[None] * absent, *strides[beginning : beginning + AT_ONCE], *[1] * absent,
            places, boxes, images, levels, out, places.shape[1], beginning,
            LEVELS=len(taken), C=C, SIZE=size, BQ=bins, BX=COLUMNS, BC=block,
            num_warps=WARPS, **OPTIONS,
        )  # fmt: skip
    return out
