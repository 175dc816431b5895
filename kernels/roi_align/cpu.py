"""Pooling regions for CPUs. A task is a run of boxes, in the order of the pixels that they read.

The mean over a bin's grid of bilinear samples is separable: each of its pixels counts with the
product of a weight of its row and one of its column, and is read once instead of by each sample
beside it.
"""

import math

import torch
import torch.nn.functional as F
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.dispatch import require_float32
from vimserve.kernels.openmp import Kernel, floats, ints, longs, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, shifted, splat, store

TASKS_PER_THREAD = 32
WIDE = 4 * LANES  # channels whose sums are held in registers


@njit(inline="always")
def _axis(weights, first, begin, start, bin_, size, length):
    """Weights of the pixels along an axis, for each bin from ``begin[bin]`` on.

    They are those of the pixel ``first[bin]`` and of the ones behind it, until the next bin's.
    """
    grid = float32(math.ceil(bin_))
    step, share = bin_ / grid, float32(1) / grid
    used = 0
    for p in range(size):
        begin[p] = used
        origin = start + float32(p) * bin_
        i = max(float32(0), float32(math.floor((float32(-1) - origin) / step)))
        # They are at least half a pixel apart, so no more lie within the map.
        for _ in range(2 * length + 6):
            at = origin + (i + float32(0.5)) * bin_ / grid
            if i >= grid or at > float32(length):
                break
            i += float32(1)
            if at < float32(-1):
                continue
            at = min(max(at, float32(0)), float32(length - 1))
            low = int(at)
            fraction = at - float32(low)
            if used == begin[p]:
                first[p] = low
            while used - begin[p] <= min(low + 1, length - 1) - first[p]:
                weights[used] = float32(0)
                used += 1
            weights[begin[p] + low - first[p]] += (float32(1) - fraction) * share
            if low + 1 < length:
                weights[begin[p] + low + 1 - first[p]] += fraction * share
    begin[size] = used


@task_loop
def _roi_align(a):
    tasks, R, C, N, size, reach = a[1], a[2], a[3], a[4], a[5], a[6]
    maps, of_row, strides, places = longs(a[7]), longs(a[8]), ints(a[9]), ints(a[10])
    boxes, images, levels, order = floats(a[11]), ints(a[12]), ints(a[13]), longs(a[14])
    out, weights, bins = floats(a[15]), floats(a[16]), ints(a[17])
    wide = C // WIDE * WIDE
    zero = splat(float32(0))
    while True:
        task = next_task(a)
        if task < 0:
            break
        down, across = shifted(weights, task * 2 * reach), shifted(weights, (task * 2 + 1) * reach)
        entries = size + 1
        of_task = shifted(bins, task * 4 * entries)
        top, left = of_task, shifted(of_task, entries)
        rows, columns = shifted(of_task, 2 * entries), shifted(of_task, 3 * entries)
        for i in range(task * R // tasks, (task + 1) * R // tasks):
            r = order[i]
            level = levels[r]
            place, stride = (level * N + images[r]) * 3, float32(strides[level])
            height, width, step = places[place + 1], places[place + 2], of_row[level]
            image = shifted(floats(maps[level]), places[place] * step)
            half = float32(0.5)
            x0, x1 = boxes[4 * r] / stride - half, boxes[4 * r + 2] / stride - half
            y0, y1 = boxes[4 * r + 1] / stride - half, boxes[4 * r + 3] / stride - half
            bin_x, bin_y = (x1 - x0) / float32(size), (y1 - y0) / float32(size)
            target = r * size * size * C
            if not (0 < bin_x < math.inf and 0 < bin_y < math.inf):
                for k in range(target, target + size * size * C, LANES):
                    store(out, k, zero)
                continue
            _axis(down, top, rows, y0, bin_y, size, height)
            _axis(across, left, columns, x0, bin_x, size, width)
            for p in range(size):
                for k in range(0, wide, WIDE):
                    for q in range(size):
                        one, two, three, four = zero, zero, zero, zero
                        for v in range(rows[p], rows[p + 1]):
                            at = ((top[p] + v - rows[p]) * width + left[q]) * step + k
                            for u in range(columns[q], columns[q + 1]):
                                weight = splat(down[v] * across[u])
                                one = fma(load(image, at), weight, one)
                                two = fma(load(image, at + LANES), weight, two)
                                three = fma(load(image, at + 2 * LANES), weight, three)
                                four = fma(load(image, at + 3 * LANES), weight, four)
                                at += step
                        to = target + (p * size + q) * C + k
                        store(out, to, one)
                        store(out, to + LANES, two)
                        store(out, to + 2 * LANES, three)
                        store(out, to + 3 * LANES, four)
                for k in range(wide, C, LANES):
                    for q in range(size):
                        one = zero
                        for v in range(rows[p], rows[p + 1]):
                            at = ((top[p] + v - rows[p]) * width + left[q]) * step + k
                            for u in range(columns[q], columns[q + 1]):
                                one = fma(load(image, at), splat(down[v] * across[u]), one)
                                at += step
                        store(out, target + (p * size + q) * C + k, one)


_kernel = Kernel(_roi_align)


def roi_align(
    maps: list[Tensor],
    places: Tensor,
    strides: list[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    size: int,
) -> Tensor:
    """See ``kernels.roi_align``."""
    require_float32(**{f"maps[{level}]": pixels for level, pixels in enumerate(maps)})
    R, C = len(boxes), maps[0].shape[1]
    if C % LANES:
        wide = [F.pad(pixels, [0, -C % LANES]) for pixels in maps]
        return roi_align(wide, places, strides, boxes, images, levels, size)[..., :C].contiguous()
    # A bin's pixels begin no earlier than at the last but one of the bin before.
    reach = int(places[..., 1:].max()) + 2 * size
    order = boxes[:, 1].argsort()  # neighbours find each other's pixels in the caches
    order = order[(levels[order] * places.shape[1] + images[order]).argsort(stable=True)]
    tasks = min(TASKS_PER_THREAD * torch.get_num_threads(), R)
    out = boxes.new_empty(R, size, size, C)
    _kernel(
        tasks, R, C, places.shape[1], size, reach,
        torch.tensor([pixels.data_ptr() for pixels in maps]),
        torch.tensor([pixels.stride(0) for pixels in maps]),
        torch.tensor(strides, dtype=torch.int32), places,
        boxes, images, levels, order, out,
        boxes.new_empty(tasks, 2, reach), torch.empty(tasks, 4, size + 1, dtype=torch.int32),
    )  # fmt: skip
    return out
