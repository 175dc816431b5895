"""Non-maximum suppression for CPUs. A task is a group.

Boxes that are kept gather in blocks of 16, edge by edge, and each box is compared with them block
by block until one suppresses it.
"""

import numpy as np
import torch
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.openmp import Kernel, floats, ints, next_task, octets, task_loop
from vimserve.kernels.simd import LANES, load, pointer, shifted, splat
from vimserve.kernels.simd_compare import bits_less, greater, lesser

BLOCK = 5 * LANES  # 16 left edges, tops, right edges, bottoms and areas

# The quotient that decides is slow, so a product that is lower by more than rounding can make it
# higher tells first whether to compute it.
NEARLY = 1 - 1e-6


@njit
def _suppressed(kept, count, box, area, near, threshold):
    """Whether a kept box overlaps this one too much."""
    left, top, right, bottom = splat(box[0]), splat(box[1]), splat(box[2]), splat(box[3])
    zero, area, near = splat(float32(0)), splat(area), splat(near)
    for at in range(0, -(-count // LANES) * BLOCK, BLOCK):
        width = lesser(right, load(kept, at + 2 * LANES)) - greater(left, load(kept, at))
        height = lesser(bottom, load(kept, at + 3 * LANES)) - greater(top, load(kept, at + LANES))
        shared = greater(width, zero) * greater(height, zero)
        union = load(kept, at + 4 * LANES) + area - shared
        if bits_less(near * union, shared) and bits_less(splat(threshold), shared / union):
            return True
    return False


@task_loop
def _nms(a):
    M, boxes, order, out, thresholds = a[2], floats(a[3]), ints(a[4]), octets(a[5]), floats(a[6])
    scratch = np.empty(-(-M // LANES) * BLOCK, dtype=np.float32)
    while True:
        group = next_task(a)
        if group < 0:
            break
        # Here, because Numba frees an array after the last place that names it.
        kept, count = pointer(scratch), 0
        for i in range(group * M, (group + 1) * M):
            if order[i] < 0:
                break
            box = shifted(boxes, 4 * np.int64(order[i]))
            area = (box[2] - box[0]) * (box[3] - box[1])
            if _suppressed(kept, count, box, area, thresholds[0], thresholds[1]):
                continue
            at, lane = count // LANES * BLOCK, count % LANES
            if lane == 0:
                scratch[at : at + BLOCK] = 0  # boxes without area suppress nothing
            for edge in range(4):
                kept[at + edge * LANES + lane] = box[edge]
            kept[at + 4 * LANES + lane] = area
            count += 1
            out[i] = np.uint8(1)


_kernel = Kernel(_nms)


def nms(boxes: Tensor, order: Tensor, threshold: float) -> Tensor:
    """See ``kernels.nms``."""
    kept = torch.zeros_like(order, dtype=torch.bool, memory_format=torch.contiguous_format)
    thresholds = torch.tensor([threshold * NEARLY, threshold])
    groups, most = order.shape
    _kernel(groups, most, boxes.contiguous(), order.contiguous(), kept, thresholds)
    return kept
