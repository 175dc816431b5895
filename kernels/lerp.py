"""Linear interpolation along an axis, as tables for CPU kernels."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Lerp(NamedTuple):
    """Linear interpolation along one axis.

    Attributes:
        first: int32 ``[outputs]``, the input before each output.
        second: int32 ``[outputs]``, the input after it.
        fraction: float32 ``[outputs]``, the weight of ``second``; ``first`` has the rest.
    """

    first: Tensor
    second: Tensor
    fraction: Tensor

    @classmethod
    @functools.lru_cache(maxsize=64)  # a layer asks for the same tables many times
    def of(cls, inputs: int, outputs: int) -> "Lerp":
        """Interpolation with ``align_corners=False``, in float32 as PyTorch computes it."""
        scale = np.float32(inputs) / np.float32(outputs)
        at = np.maximum((np.arange(outputs, dtype=np.float32) + 0.5) * scale - 0.5, 0)
        first = np.minimum(at.astype(np.int32), inputs - 1)
        second = np.minimum(first + 1, inputs - 1)
        fraction = (at - first).clip(0, 1).astype(np.float32)
        return cls(*map(torch.from_numpy, (first, second, fraction)))

    def between(self, first: int, end: int) -> "Lerp":
        """The same for the outputs from ``first`` to before ``end`` alone."""
        return Lerp(*(table[first:end] for table in self))

    def since(self, first: int) -> "Lerp":
        """The same where the inputs before ``first`` are left out."""
        return Lerp(self.first - first, self.second - first, self.fraction)
