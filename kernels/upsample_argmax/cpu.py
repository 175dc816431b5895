"""Bilinear upsampling + arg max for CPUs. A task is a run of output rows."""

import numpy as np
import torch
from numba import float32
from torch import Tensor

from vimserve.kernels.lerp import Lerp
from vimserve.kernels.openmp import Kernel, floats, ints, next_task, octets, task_loop
from vimserve.kernels.simd import (
    LANES,
    LOG2_E,
    exp2,
    fma,
    load,
    splat,
    store,
    where_less,
)  # fmt: skip
from vimserve.kernels.simd_reduce import largest, smallest, total

TASKS_PER_THREAD = 4
LOWEST = -1e38  # in lanes without a class; finite, because 0 · infinity is NaN


@task_loop
def _upsample_argmax(a):
    tasks, K, lanes, w, H, W, soft = a[1], a[2], a[3], a[4], a[5], a[6], a[7] != 0
    scores, scratch, out, probabilities = floats(a[8]), floats(a[9]), octets(a[10]), floats(a[11])
    above, below, down = ints(a[12]), ints(a[13]), floats(a[14])
    left, right, across = ints(a[15]), ints(a[16]), floats(a[17])
    lane = load(floats(a[18]), 0)
    rest = K // LANES * LANES
    steps = splat(float32(LANES))
    while True:
        task = next_task(a)
        if task < 0:
            break
        row = task * w * lanes
        for y in range(task * H // tasks, (task + 1) * H // tasks):
            # Interpolate one row of scores vertically. The lanes beyond K hold LOWEST already.
            f, top, bottom = down[y], above[y] * w * K, below[y] * w * K
            low, high = splat(float32(1) - f), splat(f)
            for x in range(w):
                for k in range(0, rest, LANES):
                    value = fma(load(scores, bottom + x * K + k), high,
                                load(scores, top + x * K + k) * low)  # fmt: skip
                    store(scratch, row + x * lanes + k, value)
                for k in range(rest, K):
                    scratch[row + x * lanes + k] = (
                        scores[top + x * K + k] * (float32(1) - f) + scores[bottom + x * K + k] * f
                    )
            for x in range(W):
                one, other = row + left[x] * lanes, row + right[x] * lanes
                low, high = splat(float32(1) - across[x]), splat(across[x])
                best = fma(load(scratch, other), high, load(scratch, one) * low)
                index = splat(float32(0))
                block = splat(float32(0))
                for k in range(LANES, lanes, LANES):
                    block = block + steps
                    value = fma(load(scratch, other + k), high, load(scratch, one + k) * low)
                    index = where_less(best, value, block, index)
                    best = where_less(best, value, value, best)
                winner = largest(best)
                # The lowest class of the lanes that have the maximum.
                index = index + lane
                index = where_less(best, splat(winner), splat(float32(K)), index)
                found = smallest(index)
                out[y * W + x] = np.uint8(found) if found < K else np.uint8(0)
                if soft:
                    ones, summed = splat(float32(LOG2_E)), splat(float32(0))
                    shift = splat(-winner * float32(LOG2_E))
                    for k in range(0, lanes, LANES):
                        value = fma(load(scratch, other + k), high, load(scratch, one + k) * low)
                        summed = summed + exp2(fma(value, ones, shift))
                    probabilities[y * W + x] = float32(1) / total(summed)


_kernel = Kernel(_upsample_argmax)


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """See ``kernels.upsample_argmax``."""
    _, h, w = scores.shape
    rows, columns = Lerp.of(h, size[0]), Lerp.of(w, size[1])
    return upsample_argmax_by(scores, rows, columns, probability=probability)


def upsample_argmax_by(
    scores: Tensor, rows: Lerp, columns: Lerp, *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """As ``upsample_argmax``, with tables for the result's rows and columns."""
    K, _, w = scores.shape
    H, W = len(rows.first), len(columns.first)
    scores = scores.permute(1, 2, 0).contiguous().float()
    lanes = -(-K // LANES) * LANES
    tasks = min(TASKS_PER_THREAD * torch.get_num_threads(), H)
    scratch = torch.full((tasks, w, lanes), LOWEST)
    classes = torch.empty(H, W, dtype=torch.uint8)
    probabilities = torch.empty(H, W) if probability else None
    _kernel(
        tasks, K, lanes, w, H, W, int(probability), scores, scratch, classes,
        scratch if probabilities is None else probabilities,
        *rows, *columns, torch.arange(LANES, dtype=torch.float32),
    )  # fmt: skip
    return classes, probabilities
