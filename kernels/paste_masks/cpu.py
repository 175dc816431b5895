"""Masks pasted as run lengths, for CPUs. A task is a mask.

Down a column of pixels the interpolated mask is straight between its own rows, so a run begins or
ends only between two rows of which one reaches the threshold. Pixels are not visited at all.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.openmp import Kernel, floats, ints, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, pointer, shifted, splat, store
from vimserve.kernels.simd_compare import bits_less, lowest_bit

ALL = (1 << LANES) - 1


@njit
def _end_run(runs, writes, count, begin, end):
    """Add a run of pixels, or only count it."""
    if writes:
        runs[count] = np.int32(end - begin)
    return count + 1, end


@njit
def _encode(mask, lanes, S, box, H, W, threshold, values, runs, writes):
    """Find a mask's runs; write them if wanted.

    ``mask`` is bordered by zeros, a column of it ``lanes`` long. ``values`` has room for one.

    Returns:
        How many there are.
    """
    left, top = np.float64(box[0]), np.float64(box[1])
    width, height = box[2] - left, box[3] - top
    count, begin, end = 0, 0, -1  # begin of the run in work, end of the instance's latest pixels
    if 0 < width < math.inf and 0 < height < math.inf:
        limit = splat(threshold)
        reach = width / (2 * S) + 1  # half a column of the mask, and a pixel for rounding
        first = int(min(max(left - reach, 0.0), np.float64(W)))
        last = int(min(max(left + width + reach, 0.0), np.float64(W)))
        for x in range(first, last):
            at = (x + 0.5 - left) / width * S + 0.5
            column = math.floor(at)
            if not 0 <= column <= S:
                continue
            one, other = column * lanes, (column + 1) * lanes
            f = splat(float32(at - column))
            before = 0
            for v in range(0, lanes, LANES):
                a = load(mask, one + v)
                value = fma(f, load(mask, other + v) - a, a)
                store(values, v, value)
                reached = ALL ^ bits_less(value, limit)
                changes = (reached ^ (reached << 1 | before)) & ALL
                before = reached >> (LANES - 1)
                while changes != 0:
                    lane = lowest_bit(changes)
                    changes &= changes - 1
                    k = v + lane
                    a, b = np.float64(values[k - 1]), np.float64(values[k])
                    row = k - 1.5 + (threshold - a) / (b - a)
                    y = min(max(top + row / S * height - 0.5, -1.0), H + 1.0)
                    if reached >> lane & 1:
                        begins = x * H + max(math.ceil(y), 0)
                        continue
                    ends = x * H + min(math.floor(y) + 1, H)
                    if begins < ends:
                        if begins > end:  # else they go on, perhaps from the column before
                            if end >= 0:
                                count, begin = _end_run(runs, writes, count, begin, end)
                            count, begin = _end_run(runs, writes, count, begin, begins)
                        end = ends
    if 0 <= end < H * W:
        count, begin = _end_run(runs, writes, count, begin, end)
    count, begin = _end_run(runs, writes, count, begin, H * W)
    return count


@task_loop
def _paste_masks(a):
    lanes, S, H, W, writes = a[2], a[3], a[4], a[5], a[6] != 0
    masks, boxes, threshold, counts, starts = floats(a[7]), floats(a[8]), floats(a[9]), a[10], a[11]
    runs = ints(a[12])
    scratch = np.empty(lanes, dtype=np.float32)
    while True:
        task = next_task(a)
        if task < 0:
            break
        values = pointer(scratch)  # here, because Numba frees an array after its last mention
        mask = shifted(masks, task * (S + 2) * lanes)
        begin = np.int64(ints(starts)[task]) if writes else 0
        count = _encode(
            mask, lanes, S, shifted(boxes, 4 * task), H, W, threshold[0], values,
            shifted(runs, begin), writes,
        )  # fmt: skip
        if not writes:
            ints(counts)[task] = np.int32(count)


_kernel = Kernel(_paste_masks)


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """See ``kernels.paste_masks``."""
    R, S, _ = masks.shape
    lanes = -(-(S + 2) // LANES) * LANES
    bordered = F.pad(masks.mT, (1, lanes - S - 1, 1, 1))
    limit, counts = torch.tensor([threshold]), torch.empty(R, dtype=torch.int32)
    given = bordered, boxes.contiguous(), limit, counts
    _kernel(R, lanes, S, *size, 0, *given, 0, 0)
    starts = F.pad(counts.cumsum(0), (1, 0)).int()
    runs = counts.new_empty(int(starts[-1]))
    _kernel(R, lanes, S, *size, 1, *given, starts, runs)
    return runs, starts
