"""What a block of Vim computes with, laid out for kernels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.kernels.checks import check_tensor


@dataclass(frozen=True)
class BlockWeights:
    """A block's weights for K directions, which have C convolutions: one for all, or K.

    Attributes:
        norm: ``[D]``.
        in_proj: ``[2 E, D]``.
        conv_weight: ``[C, E, 4]``.
        conv_bias: ``[C, E]``.
        conv_reverse: one flag for each convolution.
        x_proj: ``[C, R + 2 S, E]``.
        dt_weight: ``[K, E, R]``.
        dt_bias: ``[K, E]`` float32.
        A: ``[K, E, S]`` float32, negative.
        D: ``[K, E]`` float32.
        reverse: one flag for each direction.
        out_proj: ``[D, E]``.
    """

    norm: Tensor
    in_proj: Tensor
    conv_weight: Tensor
    conv_bias: Tensor
    conv_reverse: tuple[bool, ...]
    x_proj: Tensor
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor
    reverse: tuple[bool, ...]
    out_proj: Tensor

    def check(self) -> None:
        """Check that all weights fit together, and are float32 on one device.

        Raises:
            ValueError: if one does not; the message names it and says what was expected.
        """
        (D,), E, S = self.norm.shape, self.out_proj.shape[1], self.A.shape[2]
        R, K, C = self.dt_weight.shape[2], len(self.reverse), len(self.conv_reverse)
        for name, size, multiple in (("D", D, 16), ("E", E, 16), ("S", S, 8)):
            if size % multiple:
                raise ValueError(f"{name} must be a multiple of {multiple}, not {size}")
        if C not in (1, K):
            raise ValueError(f"there must be one convolution or {K}, one for each direction: {C}")
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "norm": ("D", (D,)),
            "in_proj": ("2 E, D", (2 * E, D)),
            "conv_weight": ("C, E, 4", (C, E, 4)),
            "conv_bias": ("C, E", (C, E)),
            "x_proj": ("C, R + 2 S, E", (C, R + 2 * S, E)),
            "dt_weight": ("K, E, R", (K, E, R)),
            "dt_bias": ("K, E", (K, E)),
            "A": ("K, E, S", (K, E, S)),
            "D": ("K, E", (K, E)),
            "out_proj": ("D, E", (D, E)),
        }
        for name, (letters, shape) in shapes.items():
            tensor = getattr(self, name)
            check_tensor(name, tensor, letters, shape, self.norm.device, (torch.float32,))
