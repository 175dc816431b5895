"""Masks pasted as run lengths, for GPUs: a program is a run of a mask's columns, one a thread.

As on CPUs, a thread walks down the rows of the mask, not the pixels. A first launch counts where
runs end in each column, a prefix sum makes places of the counts, and a second launch writes.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.paste_masks.naive import run_lengths

BLOCK, WARPS = 128, 4
# Both launches must find the same ends, so neither may fuse what the other rounds.
OPTIONS = {"enable_fp_fusion": False}


@triton.jit
def _values(mask, column, f, row, S: tl.constexpr):
    """A mask's values in one of its rows, between its columns ``column - 1`` and ``column``."""
    inside = (row >= 0) & (row < S)
    one = inside & (column >= 1) & (column <= S)
    other = inside & (column >= 0) & (column < S)
    a = tl.load(mask + row * S + column - 1, mask=one, other=0.0)
    b = tl.load(mask + row * S + column, mask=other, other=0.0)
    return a + f * (b - a)


@triton.jit(do_not_specialize=("H", "W"))
def _paste_masks(
    masks, boxes, columns, places, ends, threshold, H, W,
    S: tl.constexpr, WRITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count the ends of runs, or write them.

    ``columns`` is int32 ``[R, W]``: four times the ends below a column's first pixel, twice whether
    that pixel belongs to the instance, and whether the last one does. ``places``, int32
    ``[R, W + 1]``, says where each column's ends go.
    """
    blocks = tl.cdiv(W, BLOCK)
    r = (tl.program_id(0) // blocks).to(tl.int64)
    begin = tl.program_id(0) % blocks * BLOCK
    x = begin + tl.arange(0, BLOCK)
    columns += r * W
    place = tl.zeros((BLOCK,), tl.int32)
    if WRITE:
        # The run before ends at the column's first pixel, if that is unlike the last one's of the
        # column before.
        belongs = tl.load(columns + x, mask=x < W, other=0) // 2 % 2
        before = tl.load(columns + x - 1, mask=(x > 0) & (x < W), other=0) % 2
        place = tl.load(places + r * (W + 1) + x, mask=x < W, other=0)
        tl.store(ends + place, x * H, mask=(belongs != before) & (x < W))
        place += belongs ^ before
    left = tl.load(boxes + r * 4)
    top = tl.load(boxes + r * 4 + 1)
    width = tl.load(boxes + r * 4 + 2) - left
    height = tl.load(boxes + r * 4 + 3) - top
    reach = width / (2 * S) + 1  # half a column of the mask, and a pixel for rounding
    sound = (width > 0) & (height > 0) & (width < float("inf")) & (height < float("inf"))
    if sound & (begin < left + width + reach) & (begin + BLOCK > left - reach):
        at = tl.div_rn(x.to(tl.float32) + 0.5 - left, width) * S + 0.5
        column = tl.minimum(tl.maximum(tl.floor(at), -1.0), S + 1.0)
        f = at - column
        column = tl.where(x < W, column, -1.0).to(tl.int32)
        # Rows of pixels are counted from the box on, so that no digits are lost far down.
        base = tl.floor(top)
        offset = top - base - 0.5
        step = height / S
        mask = masks + r * S * S
        start = tl.zeros((BLOCK,), tl.int32)
        end = start - 1  # of the instance's latest pixels
        first = start  # whether the first pixel belongs to it
        a = tl.zeros((BLOCK,), tl.float32)
        for k in range(S + 1):
            b = _values(mask, column, f, k, S)
            b = tl.where((column >= 0) & (column <= S), b, 0.0)
            rises = (a < threshold) & (b >= threshold)
            falls = (a >= threshold) & (b < threshold)
            crossing = (threshold - a) / tl.where(rises | falls, b - a, 1.0)
            y = offset + (k - 0.5 + crossing) * step
            y = tl.minimum(tl.maximum(y, -1.0 - base), H + 1.0 - base)
            start = tl.where(rises, tl.maximum(base + tl.ceil(y), 0.0).to(tl.int32), start)
            stop = tl.minimum(base + tl.floor(y) + 1.0, H + 0.0).to(tl.int32)
            found = falls & (start < stop)
            apart = found & (start > end)
            if WRITE:
                tl.store(ends + place, x * H + end, mask=apart & (end >= 0))
            place += (apart & (end >= 0)).to(tl.int32)
            if WRITE:
                tl.store(ends + place, x * H + start, mask=apart & (start > 0))
            place += (apart & (start > 0)).to(tl.int32)
            first = tl.where(found & (start == 0), 1, first)
            end = tl.where(found, tl.maximum(end, stop), end)
            a = b
        if WRITE:
            tl.store(ends + place, x * H + end, mask=(end >= 0) & (end < H))
        else:
            place += ((end >= 0) & (end < H)).to(tl.int32)
            tl.store(columns + x, place * 4 + first * 2 + (end == H).to(tl.int32), mask=x < W)


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """See ``kernels.paste_masks``. The host waits once, for the total."""
    (R, S, _), (H, W) = masks.shape, size
    masks, boxes = masks.contiguous(), boxes.contiguous()
    columns = torch.zeros(R, W, dtype=torch.int32, device=masks.device)

    def launch(places: Tensor, ends: Tensor, *, write: bool) -> None:
        _paste_masks[(R * -(-W // BLOCK),)](
            masks, boxes, columns, places, ends, float(threshold), H, W,
            S=S, WRITE=write, BLOCK=BLOCK, num_warps=WARPS, **OPTIONS,
        )  # fmt: skip

    launch(columns, columns, write=False)
    before = F.pad(columns[:, :-1] & 1, (1, 0))
    counts = (columns >> 2) + ((columns >> 1 & 1) ^ before)
    counts = F.pad(counts, (0, 1), value=1)  # the last run of each ends with the picture
    sums = counts.flatten().cumsum(0)
    places = (sums.view_as(counts) - counts).int()
    starts = F.pad(sums[W :: W + 1], (1, 0))
    ends = torch.full((int(sums[-1]),), H * W, dtype=torch.int32, device=masks.device)
    launch(places, ends, write=True)
    return run_lengths(ends, starts), starts.int()
