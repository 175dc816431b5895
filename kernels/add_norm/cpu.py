"""Residual add + RMSNorm for CPUs. A task is a run of tokens."""

import torch
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.add_norm.turn import Turn
from vimserve.kernels.dispatch import require_float32
from vimserve.kernels.openmp import Kernel, floats, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, shifted, splat, store
from vimserve.kernels.simd_reduce import total
from vimserve.kernels.simd_turn import load_twice, turn

TOKENS = 64


@njit(inline="always")
def _add(row, stream, D, add):
    """Add a row to the stream's, which the sum overwrites, and return the squares' partial sums.

    Without ``add`` the row is the stream's own.
    """
    squares = splat(float32(0.0))
    for e in range(0, D, LANES):
        value = load(row, e)
        if add:
            value = value + load(stream, e)
            store(stream, e, value)
        squares = fma(value, value, squares)
    return squares


@njit(inline="always")
def _turn_and_add(row, stream, D, add, both, position, rates):
    """As ``_add``, but the row turns first, or the sum where both streams turn.

    Without ``add`` the turned row becomes the stream's.
    """
    squares = splat(float32(0.0))
    down, across = splat(position[0]), splat(position[1])
    for e in range(0, D, LANES):
        angle = down * load_twice(rates, e // 2)
        angle = fma(across, load_twice(rates, (D + e) // 2), angle)
        value = load(row, e)
        if not add:
            value = turn(value, angle)
        elif both:
            value = turn(value + load(stream, e), angle)
        else:
            value = turn(value, angle) + load(stream, e)
        store(stream, e, value)
        squares = fma(value, value, squares)
    return squares


@njit
def add_norm_row(row, stream, weight, eps, out, D, add, turns, both, position, rates):
    """One token's row: add it to the stream's, with or without turning, and normalise the sum."""
    if turns:
        squares = _turn_and_add(row, stream, D, add, both, position, rates)
    else:
        squares = _add(row, stream, D, add)
    scale = splat(float32(1.0) / (total(squares) / float32(D) + eps) ** float32(0.5))
    for e in range(0, D, LANES):
        store(out, e, load(stream, e) * scale * load(weight, e))


@task_loop
def _add_norm(a):
    T, D, add, turns, both = a[2], a[3], a[4] != 0, a[5] != 0, a[6] != 0
    hidden, residual, weight, eps, out = (
        floats(a[7]), floats(a[8]), floats(a[9]), floats(a[10]), floats(a[11]),
    )  # fmt: skip
    positions, rates = floats(a[12]), floats(a[13])
    while True:
        task = next_task(a)
        if task < 0:
            break
        for t in range(task * TOKENS, min(task * TOKENS + TOKENS, T)):
            add_norm_row(
                shifted(hidden, t * D), shifted(residual, t * D), weight, eps[0],
                shifted(out, t * D), D, add, turns, both, shifted(positions, 2 * t), rates,
            )  # fmt: skip


_kernel = Kernel(_add_norm)


def add_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    turn: Turn | None = None,
) -> tuple[Tensor, Tensor]:
    """See ``kernels.add_norm``."""
    T, D = hidden.shape
    require_float32(hidden=hidden, residual=residual)
    weight = weight.float()
    assert D % LANES == 0
    assert hidden.is_contiguous()
    assert weight.is_contiguous()
    assert residual is None or residual.is_contiguous()
    summed = residual
    if summed is None:
        # At the first layer the hidden state becomes the stream, as it is if nothing turns.
        summed = torch.empty_like(hidden) if turn else hidden
    out = torch.empty_like(hidden)
    _kernel(
        -(-T // TOKENS), T, D, int(residual is not None), int(turn is not None),
        int(turn is not None and turn.residual),
        hidden, summed, weight, torch.tensor([eps]), out,
        turn.positions if turn else 0, turn.rates if turn else 0,
    )  # fmt: skip
    return out, summed
