"""Residual add + RMSNorm (arXiv 1910.07467, equation 4)."""

from torch import Tensor

from kernels.dispatch import implementation


def add_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Add ``hidden`` to the residual stream and normalise the sum.

    Args:
        hidden: ``[T, D]``, contiguous.
        residual: ``[T, D]`` float32, overwritten by the sum; None at the first layer.
        weight: ``[D]``.
        eps: added to the mean square.

    Returns:
        ``(sum / rms(sum) * weight)`` in the dtype of hidden, and the sum in float32.
    """
    return implementation("add_norm", hidden.device.type)(hidden, residual, weight, eps)
