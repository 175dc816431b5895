"""Bilinear upsampling + arg max for GPUs: a program is a run of one output row's pixels.

It walks the classes in blocks. Every lane keeps the best of its own classes, so the lanes are
compared once per pixel and not once per block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from vimserve.kernels.triton_config import OPTIONS
from vimserve.kernels.triton_math import LOG2_E, between, exp2

PIXELS, BLOCK, WARPS = 32, 32, 4


@triton.jit
def _interpolated(corners, weights, k, K: tl.constexpr):
    """Scores of the pixels in the classes k, ``[pixels, classes]``; -inf beyond the last class."""
    value = tl.zeros((corners[0].shape[0], k.shape[0]), tl.float32)
    for i in tl.static_range(4):
        score = tl.load(corners[i][:, None] + k[None, :], mask=(k < K)[None, :], other=0.0)
        value += score.to(tl.float32) * weights[i][:, None]
    return tl.where((k < K)[None, :], value, float("-inf"))


@triton.jit(do_not_specialize=("h", "w", "H", "W"))
def _upsample_argmax(
    scores, classes, probabilities, h, w, H, W,
    K: tl.constexpr, PROBABILITY: tl.constexpr, BX: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    # A grid of one dimension, because a tall image can exceed the second one's limit of 65,535.
    runs = tl.cdiv(W, BX)
    x = tl.program_id(0) % runs * BX + tl.arange(0, BX)
    y = tl.program_id(0) // runs
    above, below, f = between(y, h, H)
    left, right, g = between(x, w, W)
    top = scores + above.to(tl.int64) * w * K
    bottom = scores + below.to(tl.int64) * w * K
    corners = (top + left * K, top + right * K, bottom + left * K, bottom + right * K)
    weights = ((1 - f) * (1 - g), (1 - f) * g, f * (1 - g), f * g)
    k = tl.arange(0, BK)
    best = _interpolated(corners, weights, k, K)
    index = tl.zeros((BX, BK), tl.int32) + k[None, :]
    for block in range(BK, K, BK):
        value = _interpolated(corners, weights, block + k, K)
        better = value > best
        index = tl.where(better, block + k[None, :], index)
        best = tl.where(better, value, best)
    winner = tl.max(best, 1)
    # The lowest class that has the maximum; if scores are NaN, none has it.
    found = tl.min(tl.where(best == winner[:, None], index, K), 1)
    at = y.to(tl.int64) * W + x
    tl.store(classes + at, tl.where(found < K, found, 0).to(tl.uint8), mask=x < W)
    if PROBABILITY:
        total = tl.zeros((BX, BK), tl.float32)
        for block in range(0, K, BK):
            value = _interpolated(corners, weights, block + k, K)
            total += exp2((value - winner[:, None]) * LOG2_E)
        tl.store(probabilities + at, 1.0 / tl.sum(total, 1), mask=x < W)


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool
) -> tuple[Tensor, Tensor | None]:
    """See ``kernels.upsample_argmax``."""
    (K, h, w), (H, W) = scores.shape, size
    scores = scores.permute(1, 2, 0).contiguous()
    classes = torch.empty(H, W, dtype=torch.uint8, device=scores.device)
    probabilities = torch.empty(H, W, device=scores.device) if probability else None
    _upsample_argmax[(-(-W // PIXELS) * H,)](
        scores, classes, classes if probabilities is None else probabilities,
        h, w, H, W,
        K=K, PROBABILITY=probability, BX=PIXELS, BK=BLOCK, num_warps=WARPS, **OPTIONS,
    )  # fmt: skip
    return classes, probabilities
