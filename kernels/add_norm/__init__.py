"""Residual add + RMSNorm (arXiv 1910.07467, equation 4), with rotary position embedding."""

import torch
from torch import Tensor

from vimserve.kernels.add_norm.turn import Turn
from vimserve.kernels.checks import check_tensor
from vimserve.kernels.dispatch import implementation

__all__ = ["Turn", "add_norm"]


def add_norm(
    hidden: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    turn: Turn | None = None,
) -> tuple[Tensor, Tensor]:
    """Add ``hidden`` to the residual stream and normalise the sum.

    Args:
        hidden: ``[T, D]``, contiguous.
        residual: ``[T, D]`` float32, contiguous, overwritten by the sum; None at the first layer.
        weight: ``[D]``.
        eps: added to the mean square.
        turn: turns the hidden state first, and the residual if it says so.

    Returns:
        ``(sum / rms(sum) * weight)`` in the dtype of hidden, and the sum in float32.

    Raises:
        ValueError: if an argument has a wrong shape, dtype, device or layout; the message names it.
    """
    if hidden.ndim != 2:
        raise ValueError(f"hidden must be [T, D], not {list(hidden.shape)}")
    T, D = hidden.shape
    check_tensor("weight", weight, "D", (D,), hidden.device)
    check_tensor("hidden", hidden, "T, D", (T, D), hidden.device)
    if residual is not None:
        check_tensor("residual", residual, "T, D", (T, D), hidden.device, (torch.float32,))
    for name, tensor in (("hidden", hidden), ("residual", residual)):
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous: call .contiguous()")
    if turn:
        turn.check(T, D, hidden.device)
    return implementation("add_norm", hidden.device.type)(hidden, residual, weight, eps, turn)
