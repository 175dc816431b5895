"""Causal depthwise convolution + SiLU over packed sequences, in all directions at once."""

from collections.abc import Sequence

from torch import Tensor

from vimserve.kernels.checks import check_boundaries, check_tensor
from vimserve.kernels.dispatch import implementation

TAPS = 4


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, reverse: Sequence[bool]
) -> Tensor:
    """Convolve every channel with its own filter of 4 taps, then apply SiLU.

    ``y[t] = silu(bias + sum_j weight[j] x[t - 3 + j])`` with zeros before the sequence's first
    token; a reversed direction looks ahead instead, ``x[t + 3 - j]``, with zeros after the last.

    Args:
        x: ``[T, E]``, rows contiguous.
        weight: ``[K, E, 4]``.
        bias: ``[K, E]``.
        cu_seqlens: ``[N + 1]`` int32 on the device of x, from 0 to T.
        reverse: one flag for each of the K directions.

    Returns:
        ``[K, T, E]`` in the dtype of x.

    Raises:
        ValueError: if an argument has a wrong shape, dtype, device or layout; the message names it.
    """
    if x.ndim != 2 or x.shape[1] % 16:
        raise ValueError(f"x must be [T, E] with E a multiple of 16, not {list(x.shape)}")
    (T, E), K = x.shape, len(reverse)
    check_tensor("x", x, "T, E", (T, E), x.device)
    check_tensor("weight", weight, "K, E, 4", (K, E, TAPS), x.device)
    check_tensor("bias", bias, "K, E", (K, E), x.device)
    check_boundaries(cu_seqlens, T, x.device)
    return implementation("conv1d", x.device.type)(x, weight, bias, cu_seqlens, reverse)
