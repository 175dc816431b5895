"""Selective scan (Mamba, arXiv 2312.00752, algorithm 2) over packed sequences."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vimserve.kernels.checks import check_boundaries, check_tensor
from vimserve.kernels.dispatch import implementation


def selective_scan(
    x: Tensor,
    dt: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    cu_seqlens: Tensor,
    reverse: Sequence[bool],
    *,
    side_by_side: bool = False,
    max_seqlen: int | None = None,
) -> Tensor:
    """Scan K directions of packed sequences, add them up and gate the sum.

    Per direction and sequence, with ``d = softplus(dt @ dt_weight.T + dt_bias)``::

        h[t] = exp(d[t] A) h[t - 1] + d[t] B[t] x[t]        y[t] = C[t] h[t] + D x[t]

    A direction with ``reverse`` goes from the last token to the first. The result is
    ``silu(z) * sum(y)``. The states ``h`` start at zero in every sequence and are not stored for
    every token.

    Args:
        x: ``[K, T, E]``; its rows are contiguous, like those of all arguments that have a T.
        dt: ``[K, T, R]`` low-rank step sizes.
        dt_weight: ``[K, E, R]``.
        dt_bias: ``[K, E]``.
        A: ``[K, E, S]`` float32, negative.
        B: ``[K, T, S]``.
        C: ``[K, T, S]``.
        D: ``[K, E]`` float32.
        z: ``[T, E]`` the gate, shared by the directions.
        cu_seqlens: ``[N + 1]`` int32 on the device of x, from 0 to T.
        reverse: one flag for each direction.
        side_by_side: gate each direction instead of the sum. A following product with
            ``[weight | weight]`` sums them without another pass over memory.
        max_seqlen: length of the longest sequence or a bound on it, if the host knows one. It
            only helps to choose the schedule and does not change the result.

    Returns:
        ``[T, E]`` in the dtype of x, or ``[T, K E]`` if side by side.

    Raises:
        ValueError: if an argument has a wrong shape, dtype, device or layout; the message names it.
    """
    K, T, E = _three("x", x)
    R, S = _three("dt_weight", dt_weight)[2], _three("A", A)[2]
    if E % 16:
        raise ValueError(f"the E of x must be a multiple of 16, not {E}")
    if S % 8:
        raise ValueError(f"the S of A must be a multiple of 8, not {S}")
    if len(reverse) != K:
        raise ValueError(
            f"reverse must have one flag for each of the {K} directions of x, not {len(reverse)}"
        )
    check_tensor("x", x, "K, T, E", (K, T, E), x.device)
    check_tensor("dt", dt, "K, T, R", (K, T, R), x.device)
    check_tensor("dt_weight", dt_weight, "K, E, R", (K, E, R), x.device)
    check_tensor("dt_bias", dt_bias, "K, E", (K, E), x.device)
    check_tensor("A", A, "K, E, S", (K, E, S), x.device, (torch.float32,))
    check_tensor("B", B, "K, T, S", (K, T, S), x.device)
    check_tensor("C", C, "K, T, S", (K, T, S), x.device)
    check_tensor("D", D, "K, E", (K, E), x.device, (torch.float32,))
    check_tensor("z", z, "T, E", (T, E), x.device, (x.dtype,))
    check_boundaries(cu_seqlens, T, x.device)
    run = implementation("selective_scan", x.device.type)
    return run(
        x, dt, dt_weight, dt_bias, A, B, C, D, z, cu_seqlens, reverse,
        side_by_side=side_by_side, max_seqlen=max_seqlen,
    )  # fmt: skip


def _three(name: str, tensor: Tensor) -> tuple[int, int, int]:
    if tensor.ndim != 3:
        raise ValueError(f"{name} must have three axes, not {list(tensor.shape)}")
    a, b, c = tensor.shape
    return a, b, c
