"""Non-maximum suppression for GPUs: a program is a group, and walks it in blocks of boxes.

The boxes that are kept gather in memory. A block is compared with all of them first, and what is
left of it then with itself.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 64, 8
# A product that is fused into the sum behind it would not be rounded as the reference rounds it.
OPTIONS = {"enable_fp_fusion": False}


@triton.jit
def _load_boxes(p, there):
    """The edges of boxes, and their areas: infinite if there is none, so that no IoU is high."""
    left = tl.load(p, mask=there, other=0.0)
    top = tl.load(p + 1, mask=there, other=0.0)
    right = tl.load(p + 2, mask=there, other=0.0)
    bottom = tl.load(p + 3, mask=there, other=0.0)
    width, height = right - left, bottom - top
    area = tl.where((width > 0) & (height > 0), width * height, float("inf"))
    return left, top, right, bottom, area


@triton.jit
def _overlap(a, b, threshold, half_step):
    """Whether each of the boxes a overlaps each of the boxes b too much, ``[a, b]``.

    The quotient, rounded to float32, exceeds the threshold if it is beyond half the step to the
    next number. That needs no division: near that point the fused difference is exact.
    """
    width = tl.minimum(a[2][:, None], b[2][None, :]) - tl.maximum(a[0][:, None], b[0][None, :])
    height = tl.minimum(a[3][:, None], b[3][None, :]) - tl.maximum(a[1][:, None], b[1][None, :])
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    union = a[4][:, None] + b[4][None, :] - shared
    return tl.fma(-union, threshold, shared) > union * half_step


@triton.jit
def _any(x):
    """Which rows of ``[a, b]`` have a true entry."""
    return tl.max(x.to(tl.int32), 1) != 0


@triton.jit(do_not_specialize=("M",))
def _nms(boxes, order, out, gathered, threshold, half_step, M, BLOCK: tl.constexpr):
    group = tl.program_id(0).to(tl.int64)
    order += group * M
    out += group * M
    gathered += group * M * 4
    lane = tl.arange(0, BLOCK)
    earlier = lane[None, :] < lane[:, None]
    count = 0
    begin = 0
    while begin < M:
        i = begin + lane
        row = tl.load(order + i, mask=i < M, other=-1)
        ended = tl.min(tl.where(row < 0, lane, BLOCK))
        own = _load_boxes(boxes + row.to(tl.int64) * 4, lane < ended)
        overlaps = tl.zeros((BLOCK, BLOCK), tl.int1)
        for k in range(0, count, BLOCK):
            kept = _load_boxes(gathered + (k + lane) * 4, k + lane < count)
            overlaps = overlaps | _overlap(own, kept, threshold, half_step)
        left = (lane < ended) & ~_any(overlaps)
        # What is kept depends on what is kept before it: each round is right for one box more at
        # least, and the first that changes nothing is right for all.
        overlaps = _overlap(own, own, threshold, half_step) & earlier
        keep = left
        changed = 1
        while changed != 0:
            again = left & ~_any(overlaps & keep[None, :])
            changed = tl.max((again != keep).to(tl.int32))
            keep = again
        tl.store(out + i, keep.to(tl.uint8), mask=lane < ended)
        to = gathered + (count + tl.cumsum(keep.to(tl.int32)) - 1) * 4
        for edge in tl.static_range(4):
            tl.store(to + edge, own[edge], mask=keep)
        count += tl.sum(keep.to(tl.int32))
        tl.debug_barrier()  # other threads read what was gathered
        begin = tl.where(ended < BLOCK, M, begin + BLOCK)


def nms(boxes: Tensor, order: Tensor, threshold: float) -> Tensor:
    """See ``kernels.nms``. The host waits for nothing."""
    G, M = order.shape
    out = torch.zeros(G, M, dtype=torch.uint8, device=boxes.device)
    gathered = torch.empty(G, M, 4, device=boxes.device)
    limit = np.float32(threshold)
    half_step = (np.nextafter(limit, np.float32(2)) - limit) / 2
    _nms[(G,)](
        boxes.contiguous(), order.contiguous(), out, gathered, float(limit), float(half_step), M,
        BLOCK=BLOCK, num_warps=WARPS, **OPTIONS,
    )  # fmt: skip
    return out.view(torch.bool)
