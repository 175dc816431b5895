"""Residual add + RMSNorm for CPUs. A task is a run of tokens."""

import torch
from numba import float32
from torch import Tensor

from vimserve.kernels.dispatch import require_float32
from vimserve.kernels.openmp import Kernel, floats, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, splat, store, total

TOKENS = 64


@task_loop
def _add_norm(a):
    T, D, add = a[2], a[3], a[4] != 0
    hidden, residual, weight, eps, out = (
        floats(a[5]), floats(a[6]), floats(a[7]), floats(a[8]), floats(a[9]),
    )  # fmt: skip
    while True:
        task = next_task(a)
        if task < 0:
            break
        for t in range(task * TOKENS, min(task * TOKENS + TOKENS, T)):
            squares = splat(float32(0.0))
            for e in range(t * D, t * D + D, LANES):
                value = load(hidden, e)
                if add:
                    value = value + load(residual, e)
                    store(residual, e, value)
                squares = fma(value, value, squares)
            scale = splat(float32(1.0) / (total(squares) / float32(D) + eps[0]) ** float32(0.5))
            for e in range(0, D, LANES):
                store(out, t * D + e, load(residual, t * D + e) * scale * load(weight, e))


_kernel = Kernel(_add_norm)


def add_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``."""
    T, D = hidden.shape
    require_float32(hidden=hidden, residual=residual, weight=weight)
    assert D % LANES == 0
    assert hidden.is_contiguous()
    assert weight.is_contiguous()
    assert residual is None or residual.is_contiguous()
    summed = hidden if residual is None else residual
    out = torch.empty_like(hidden)
    _kernel(
        -(-T // TOKENS), T, D, int(residual is not None),
        hidden, summed, weight, torch.tensor([eps]), out,
    )  # fmt: skip
    return out, summed
