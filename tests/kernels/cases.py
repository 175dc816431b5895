"""Inputs that every implementation of an operation is tried on."""

from typing import Any

import torch
from torch import Tensor

from vimserve.kernels.add_norm import Turn

# No powers of two alone, sequences shorter than the convolution, one sequence, many.
RAGGED = {
    "one": [1],
    "shorter than the filter": [1, 2, 3],
    "ragged": [17, 1, 64, 3, 100, 2, 33],
    "single": [131],
    "many": [5] * 40,
}


TURNS = ("nothing", "hidden", "both")


def make_turn(T: int, D: int, turns: str) -> Turn | None:
    """Random angles, each pair's from one axis as in Vim; ``turns`` is one of ``TURNS``."""
    if turns == "nothing":
        return None
    random = torch.Generator().manual_seed(T)
    positions = 28 * torch.rand(T, 2, generator=random) - 14
    rates = torch.rand(2, D // 2, generator=random)
    rates[0, D // 4 :] = rates[1, : D // 4] = 0
    return Turn(positions, rates, turns == "both")


def boundaries(lengths: list[int]) -> Tensor:
    """``cu_seqlens`` of sequences of these lengths."""
    return torch.tensor([0, *lengths]).cumsum(0).int()


def scan_inputs(lengths: list[int], E: int, S: int, R: int, directions: int) -> dict[str, Any]:
    """Arguments of ``selective_scan`` but ``reverse``, strided as the mixer's projections are."""
    torch.manual_seed(sum(lengths) + E)
    T = sum(lengths)
    projected = torch.randn(directions, T, R + 2 * S)
    dt, B, C = projected.split([R, S, S], dim=2)
    return {
        "x": torch.randn(directions, T, E),
        "dt": dt,
        "dt_weight": torch.randn(directions, E, R) * R**-0.5,
        "dt_bias": torch.randn(directions, E) - 3,
        "A": -torch.exp(torch.randn(directions, E, S)),
        "B": B,
        "C": C,
        "D": torch.randn(directions, E),
        "z": torch.randn(T, 2 * E)[:, E:],
        "cu_seqlens": boundaries(lengths),
    }
