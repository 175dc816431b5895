"""Rotary position embedding in two dimensions: how the channels of packed tokens turn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.kernels.checks import check_tensor


@dataclass(frozen=True)
class Turn:
    """By which angle every pair of channels of every token turns.

    The channels 2i and 2i + 1 of token t, (a, b), become (a cos φ - b sin φ, b cos φ + a sin φ)
    with φ = ``positions[t] @ rates[:, i]``.

    Attributes:
        positions: ``[T, 2]`` float32, contiguous: down the rows and along the columns. A token at
            (0, 0) stays as it is.
        rates: ``[2, D / 2]`` float32, contiguous: radians for a unit of each position.
        residual: whether the residual stream turns as well as the hidden state.
    """

    positions: Tensor
    rates: Tensor
    residual: bool

    def check(self, T: int, D: int, device: torch.device) -> None:
        """Check that this turns T tokens of D channels on ``device``.

        Raises:
            ValueError: if D is odd, or a tensor has a wrong shape, dtype, device or layout.
        """
        if D % 2:
            raise ValueError(f"the D of hidden must be even to turn pairs of channels, not {D}")
        dtypes = (torch.float32,)
        check_tensor("positions", self.positions, "T, 2", (T, 2), device, dtypes)
        check_tensor("rates", self.rates, "2, D / 2", (2, D // 2), device, dtypes)
        for name, tensor in (("positions", self.positions), ("rates", self.rates)):
            if not tensor.is_contiguous():
                raise ValueError(f"{name} must be contiguous: call .contiguous()")
