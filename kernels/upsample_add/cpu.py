"""Upsampling, shifting and adding for CPUs. A task is a run of output rows."""

import math

import torch
import torch.nn.functional as F
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.lerp import Lerp
from vimserve.kernels.openmp import Kernel, floats, ints, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, splat, store, where_less

TASKS_PER_THREAD = 4
COMMON = 16  # arguments before those of the maps
OF_MAP = 10  # arguments of each


@njit(inline="always")
def _neighbours(first, second, fraction, at, size):
    """The inputs beside an output and their weights, which are 0 outside of the image."""
    inside = 0 <= at < size
    at = min(max(at, 0), size - 1)
    f = fraction[at]
    low, high = (float32(1) - f, f) if inside else (float32(0), float32(0))
    return first[at], second[at], splat(low), splat(high)


@task_loop
def _upsample_add(a):
    tasks, levels, N, H, W, C, K = a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    of_image, of_row, of_pixel = a[8], a[9], a[10]
    x, bias, scratch, of_task, relu = floats(a[11]), floats(a[12]), floats(a[13]), a[14], a[15]
    floor = splat(float32(0))
    while True:
        task = next_task(a)
        if task < 0:
            break
        for row in range(task * N * H // tasks, (task + 1) * N * H // tasks):
            n, y = row // H, row % H
            # Each map's rows around this one become one, at the map's own width: of every column
            # the sums of the three shifts by columns remain.
            for level in range(levels):
                of = COMMON + level * OF_MAP
                m, h, w = floats(a[of]), a[of + 1], a[of + 2]
                above, below, down = ints(a[of + 3]), ints(a[of + 4]), floats(a[of + 5])
                blended = task * of_task + a[of + 9]
                step, run = K * K * C, K * C
                image = n * h * w * step
                i, j, low, high = _neighbours(above, below, down, y, H)
                if K == 1:
                    one, other = image + i * w * step, image + j * w * step
                    for v in range(0, w * C, LANES):
                        value = load(m, one + v) * low
                        store(scratch, blended + v, fma(load(m, other + v), high, value))
                else:
                    i0, j0, low0, high0 = _neighbours(above, below, down, y - 1, H)
                    i2, j2, low2, high2 = _neighbours(above, below, down, y + 1, H)
                    one0, other0 = image + i0 * w * step, image + j0 * w * step
                    one1, other1 = image + i * w * step + run, image + j * w * step + run
                    one2, other2 = image + i2 * w * step + 2 * run, image + j2 * w * step + 2 * run
                    for column in range(w):
                        for v in range(0, run, LANES):
                            u = column * step + v
                            value = load(m, one0 + u) * low0
                            value = fma(load(m, other0 + u), high0, value)
                            value = fma(load(m, one1 + u), low, value)
                            value = fma(load(m, other1 + u), high, value)
                            value = fma(load(m, one2 + u), low2, value)
                            value = fma(load(m, other2 + u), high2, value)
                            store(scratch, blended + column * run + v, value)
            for column in range(W):
                at = n * of_image + y * of_row + column * of_pixel
                for level in range(levels):
                    of = COMMON + level * OF_MAP
                    left, right, across = ints(a[of + 6]), ints(a[of + 7]), floats(a[of + 8])
                    blended = task * of_task + a[of + 9]
                    begins, ends = level == 0, relu != 0 and level == levels - 1
                    i, j, low, high = _neighbours(left, right, across, column, W)
                    if K == 1:
                        one, other = blended + i * C, blended + j * C
                        for k in range(0, C, LANES):
                            value = load(x, at + k)
                            if begins:
                                value = value + load(bias, k)
                            value = fma(load(scratch, one + k), low, value)
                            value = fma(load(scratch, other + k), high, value)
                            if ends:
                                value = where_less(value, floor, floor, value)
                            store(x, at + k, value)
                    else:
                        i0, j0, low0, high0 = _neighbours(left, right, across, column - 1, W)
                        i2, j2, low2, high2 = _neighbours(left, right, across, column + 1, W)
                        one0, other0 = blended + i0 * 3 * C, blended + j0 * 3 * C
                        one1, other1 = blended + (i * 3 + 1) * C, blended + (j * 3 + 1) * C
                        one2, other2 = blended + (i2 * 3 + 2) * C, blended + (j2 * 3 + 2) * C
                        for k in range(0, C, LANES):
                            value = load(x, at + k)
                            if begins:
                                value = value + load(bias, k)
                            value = fma(load(scratch, one0 + k), low0, value)
                            value = fma(load(scratch, other0 + k), high0, value)
                            value = fma(load(scratch, one1 + k), low, value)
                            value = fma(load(scratch, other1 + k), high, value)
                            value = fma(load(scratch, one2 + k), low2, value)
                            value = fma(load(scratch, other2 + k), high2, value)
                            if ends:
                                value = where_less(value, floor, floor, value)
                            store(x, at + k, value)


_kernel = Kernel(_upsample_add)


def upsample_add(x: Tensor, maps: list[Tensor], bias: Tensor | None, *, relu: bool) -> None:
    """See ``kernels.upsample_add``."""
    N, H, W, C = x.shape
    if C % LANES or x.dtype != torch.float32:
        beyond = [0, -C % LANES]
        wide = F.pad(x.float(), beyond)
        maps = [F.pad(products.float(), beyond) for products in maps]
        bias = None if bias is None else F.pad(bias.float(), beyond)
        upsample_add(wide, maps, bias, relu=relu)
        x.copy_(wide[..., :C])
        return
    maps = [products.float().contiguous() for products in maps]
    bias = x.new_zeros(C) if bias is None else bias.float().contiguous()
    side = math.isqrt(maps[0].shape[3])
    arguments: list[Tensor | int] = []
    of_task = 0
    for products in maps:
        h, w = products.shape[1:3]
        arguments += [products, h, w, *Lerp.of(h, H), *Lerp.of(w, W), of_task]
        of_task += w * side * C
    tasks = min(TASKS_PER_THREAD * torch.get_num_threads(), N * H)
    scratch = x.new_empty(tasks, of_task)
    _kernel(
        tasks, len(maps), N, H, W, C, side, *x.stride()[:3], x, bias, scratch, of_task, int(relu),
        *arguments,
    )  # fmt: skip
