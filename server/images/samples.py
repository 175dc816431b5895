"""Samples of any type to 8 bits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vimserve.model.samples import SampleRange
from vimserve.server.errors import UnsupportedImage

Array = np.ndarray[Any, np.dtype[Any]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Percentiles are those of about so many pixels, on a regular grid.
SURVEYED = 2**20
_NAMES = {"u": "unsigned integers", "i": "signed integers", "f": "floating point"}


@dataclass(frozen=True)
class SampleType:
    """The type of a picture's samples.

    Attributes:
        kind: unsigned, signed or floating point.
        bits: of each sample.
    """

    kind: Literal["u", "i", "f"]
    bits: int

    def __str__(self) -> str:
        return f"{self.bits}-bit {self.named}"

    @property
    def named(self) -> str:
        """The kind in words."""
        return _NAMES[self.kind]

    @property
    def deep(self) -> bool:
        """Whether a range may be chosen: up to 8 unsigned bits are a picture's own."""
        return self.kind != "u" or self.bits > 8

    @property
    def limits(self) -> tuple[float, float]:
        """What the type can hold; by convention 0 and 1 in floating point."""
        if self.kind == "f":
            return 0.0, 1.0
        if self.kind == "i":
            return -(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1) - 1
        return 0.0, 2.0**self.bits - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest NumPy type that holds a sample."""
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        return np.dtype(f"{self.kind}{size // 8}")


class Scale:
    """Maps samples to 8 bits: ``low`` to 0, ``high`` to 255, what is not a number to 0.

    Attributes:
        low: value that becomes 0.
        high: value that becomes 255.
    """

    def __init__(self, kind: SampleType, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._table: Bytes | None = None
        self._index = np.dtype(f"u{kind.dtype.itemsize}")
        if kind.kind != "f" and kind.dtype.itemsize <= 2:
            every = np.arange(256**kind.dtype.itemsize, dtype=self._index).view(kind.dtype)
            self._table = self._compute(every)

    def __call__(self, samples: Array) -> Bytes:
        """uint8 of the same shape; the samples are in the machine's byte order."""
        if self._table is not None:
            return self._table[samples.view(self._index)]
        return self._compute(samples)

    def _compute(self, samples: Array) -> Bytes:
        # Halves first: the difference of two doubles may exceed the largest double.
        below = samples.astype(np.float64)
        below *= 0.5
        below -= self.low / 2
        span = self.high / 2 - self.low / 2
        if span > 0:
            below *= 255 / span
        else:  # all that was surveyed has one value
            below = np.where(below > 0, 255.0, 0.0)
        np.nan_to_num(below, copy=False, nan=0.0)
        below += 0.5
        return below.clip(0, 255).astype(np.uint8)


def choose_scale(wanted: SampleRange, kind: SampleType, blocks: Iterable[Array]) -> Scale:
    """The scale for a picture.

    Args:
        wanted: what the request or the model asks for.
        kind: type of the samples.
        blocks: the samples (of percentiles, a regular grid of them); read only if needed.

    Raises:
        UnsupportedImage: floating point outside 0 to 1 without a range.
    """
    if not kind.deep or (wanted.kind == "dtype" and kind.kind != "f"):
        return Scale(kind, *kind.limits)
    if wanted.kind == "values":
        return Scale(kind, wanted.low, wanted.high)
    if wanted.kind == "percentiles":
        surveyed = np.concatenate([_finite(block) for block in blocks])
        if not surveyed.size:
            return Scale(kind, 0.0, 0.0)
        low, high = np.percentile(surveyed.astype(np.float64), (wanted.low, wanted.high))
        return Scale(kind, float(low), float(high))
    _check_unit(kind, blocks)
    return Scale(kind, *kind.limits)


def grid_step(pixels: int) -> int:
    """Every how many rows and columns a picture of so many pixels is surveyed."""
    return max(math.isqrt(max(pixels - 1, 0) // SURVEYED) + 1, 1) if pixels > SURVEYED else 1


def _check_unit(kind: SampleType, blocks: Iterable[Array]) -> None:
    low, high = math.inf, -math.inf
    for block in blocks:
        finite = _finite(block)
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low < 0 or high > 1:
        raise UnsupportedImage(
            f"the samples are {kind} from {low:.6g} to {high:.6g}, of which nothing says what is "
            "black and what is white; ask for range=LOW,HIGH or range=p2,p98",
            parameter="range",
            limit=[0, 1],
            value=[low, high],
        )


def _finite(block: Array) -> Array:
    flat = block.reshape(-1)
    return flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
