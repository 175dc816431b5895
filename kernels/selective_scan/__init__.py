"""Selective scan (Mamba, arXiv 2312.00752, algorithm 2) over packed sequences."""

from collections.abc import Sequence

from torch import Tensor

from kernels.dispatch import implementation


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
) -> Tensor:
    """Scan K directions of packed sequences, add them up and gate the sum.

    Per direction and sequence, with ``d = softplus(dt @ dt_weight.T + dt_bias)``::

        h[t] = exp(d[t] A) h[t - 1] + d[t] B[t] x[t]        y[t] = C[t] h[t] + D x[t]

    or from the last token to the first where ``reverse``; the result is ``silu(z) * sum(y)``.
    The states ``h`` start at zero in every sequence and never leave the processor's caches.

    Args:
        x: ``[K, T, E]``, rows contiguous, as all of the following that have a T.
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

    Returns:
        ``[T, E]`` in the dtype of x.
    """
    run = implementation("selective_scan", x.device.type)
    return run(x, dt, dt_weight, dt_bias, A, B, C, D, z, cu_seqlens, reverse)
