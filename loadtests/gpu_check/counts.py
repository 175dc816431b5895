"""The least that a Vim must read, write and compute, counted from its shapes.

Every tensor that passes between two kernels is counted once where it is written and once where it
is read; weights once per launch. *Special* operations are those of the special-function units:
exponentials and reciprocals.
"""

from dataclasses import dataclass
from typing import Self

from vimserve.model.config import VimConfig

CONV_TAPS = 4


@dataclass(frozen=True)
class Cost:
    """The cost of an operation.

    Attributes:
        bytes: read and written.
        flops: floating-point operations of matrix products.
        special: exponentials and reciprocals.
    """

    bytes: int = 0
    flops: int = 0
    special: int = 0

    def __add__(self, other: Self) -> "Cost":
        return Cost(
            self.bytes + other.bytes, self.flops + other.flops, self.special + other.special
        )

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.bytes * times, self.flops * times, self.special * times)


@dataclass(frozen=True)
class Floor:
    """The least time, in milliseconds, that the device could take for a cost.

    Attributes:
        bytes_ms: for its bytes.
        special_ms: for its special operations.
    """

    bytes_ms: float
    special_ms: float

    @property
    def ms(self) -> float:
        """The higher of the two."""
        return max(self.bytes_ms, self.special_ms)

    @classmethod
    def of(cls, cost: Cost, bytes_per_s: float, special_per_s: float) -> "Floor":
        """The floor of a cost at the rates that were measured of the device."""
        return cls(1e3 * cost.bytes / bytes_per_s, 1e3 * cost.special / special_per_s)


def directions(config: VimConfig) -> int:
    """K, the number of directions in which a mixer reads its sequences."""
    return 2 if config.bidirectional in ("ssm", "ssm+conv") else 1


def scan(config: VimConfig, tokens: int, itemsize: int, projected_itemsize: int = 4) -> Cost:
    """The cost of ``selective_scan`` with its step projection, skip and gate.

    For each direction, token and channel there are S + 3 special operations: S decays, the
    exponential of softplus, and the exponential and the reciprocal of the gate.
    """
    K, E, S, R = directions(config), config.inner_width, config.states, config.dt_rank
    per_token = (2 * K + 1) * E * itemsize + K * (R + 2 * S) * projected_itemsize
    weights = K * E * ((R + 1) * itemsize + (S + 1) * 4)
    return Cost(tokens * per_token + weights, 0, tokens * K * E * (S + 3))


def conv(config: VimConfig, tokens: int, itemsize: int) -> Cost:
    """The cost of ``conv1d``: x is read once, and each direction's convolution ends in a SiLU."""
    E, C = config.inner_width, 2 if config.bidirectional == "ssm+conv" else 1
    elements = tokens * (1 + C) * E + C * E * (CONV_TAPS + 1)
    return Cost(elements * itemsize, 0, tokens * C * E * 2)


def norm(config: VimConfig, tokens: int, itemsize: int) -> Cost:
    """The cost of ``add_norm``: it reads hidden and residual, and writes residual and the norm.

    The residual is float32.
    """
    D = config.width
    return Cost(tokens * D * (2 * itemsize + 8) + D * itemsize, 0, tokens)


def product(tokens: int, wide: int, out: int, itemsize: int, out_itemsize: int) -> Cost:
    """The cost of the matrix product ``[tokens, wide] @ [wide, out]``."""
    moved = (tokens + out) * wide * itemsize + tokens * out * out_itemsize
    return Cost(moved, 2 * tokens * wide * out, 0)


def block(config: VimConfig, tokens: int, itemsize: int) -> Cost:
    """The cost of a Vim block: norm, in_proj, convolution, x_proj, scan, out_proj."""
    K, D, E = directions(config), config.width, config.inner_width
    C = 2 if config.bidirectional == "ssm+conv" else 1
    projected = config.dt_rank + 2 * config.states
    return (
        norm(config, tokens, itemsize)
        + product(tokens, D, 2 * E, itemsize, itemsize)
        + conv(config, tokens, itemsize)
        + product(tokens, E, projected, itemsize, 4) * C
        + scan(config, tokens, itemsize)
        + product(tokens, K * E, D, itemsize, itemsize)
    )


def forward(config: VimConfig, images: int, grid: tuple[int, int], itemsize: int) -> Cost:
    """The cost of a forward pass over equal images, from patches to class scores."""
    patches = grid[0] * grid[1]
    tokens = images * (patches + config.class_tokens)
    pixels = 3 * config.patch_size**2
    widened = Cost(images * patches * pixels * (1 + itemsize))  # from bytes to the dtype
    embedding = widened + product(images * patches, pixels, config.width, itemsize, itemsize)
    head = product(images, config.width, config.num_classes, itemsize, itemsize)
    return embedding + block(config, tokens, itemsize) * config.depth + head
