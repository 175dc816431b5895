"""The selective scan with gradients, on CPUs, for training; serving never imports this.

Unlike the served kernel it scans one direction, of N images of T tokens each, and leaves the step
sizes and the gate to PyTorch. For every image, channel e and state s::

    h[t, e, s] = exp(dt[t, e] A[e, s]) h[t - 1, e, s] + dt[t, e] x[t, e] B[t, s]
    y[t, e]    = D[e] x[t, e] + sum_s C[t, s] h[t, e, s]

The states ``[N, T, E, S]`` are recomputed instead of stored (arXiv 2401.09417, section 3.5): the
forward pass saves those before every ``CHUNK``-th token, and the backward pass computes one chunk
at a time again from there, in a buffer that stays in the cache. With ``g[t]`` for the gradient of
``h[t]``, it walks from the last token to the first::

    g[t] = dy[t] C[t] + exp(dt[t + 1] A) g[t + 1]

A task is a block of ``BLOCK`` channels of one image. Each writes its own share of the gradients of
A, B, C and D; PyTorch adds the shares up.
"""

from typing import Any

import numpy as np
import torch
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.openmp import Kernel, floats, next_task, task_loop
from vimserve.kernels.simd import (
    LANES,
    LOG2_E,
    exp2,
    fma,
    load,
    pointer,
    shifted,
    splat,
    store,
)
from vimserve.kernels.simd_reduce import total

BLOCK = 64
CHUNK = 8


@njit(inline="always")
def _rates(A, S):
    """Rates ``[BLOCK, S]`` as ``[S, BLOCK]``, for powers of two instead of e."""
    rates = np.empty((S, BLOCK), np.float32)
    for s in range(S):
        for j in range(BLOCK):
            rates[s, j] = A[j * S + s] * float32(LOG2_E)
    return rates


@njit
def _forward_block(T, E, S, reverse, x, dt, A, B, C, D, y, saved):
    """Scan a block of channels of one image; every pointer is at the block's first element."""
    rates = _rates(A, S)
    states = np.zeros((S, BLOCK), np.float32)
    rate, h = pointer(rates), pointer(states)
    for i in range(T):
        t = T - 1 - i if reverse else i
        for e in range(0, BLOCK, LANES):
            step, value = load(dt, t * E + e), load(x, t * E + e)
            scaled, out = step * value, load(D, e) * value
            for s in range(S):
                at = s * BLOCK + e
                before = load(h, at)
                if i % CHUNK == 0:
                    store(saved, i // CHUNK * S * BLOCK + at, before)
                state = fma(exp2(step * load(rate, at)), before, scaled * splat(B[t * S + s]))
                store(h, at, state)
                out = fma(state, splat(C[t * S + s]), out)
            store(y, t * E + e, out)


@njit
def _recompute_chunk(begin, tokens, T, E, S, reverse, x, dt, rate, B, h, decays):
    """Fill ``h[1:]`` of ``[tokens + 1, S, BLOCK]`` from ``h[0]``, and the decays between them."""
    for i in range(tokens):
        t = T - 1 - begin - i if reverse else begin + i
        for e in range(0, BLOCK, LANES):
            step = load(dt, t * E + e)
            scaled = step * load(x, t * E + e)
            for s in range(S):
                at = (i * S + s) * BLOCK + e
                decay = exp2(step * load(rate, s * BLOCK + e))
                store(decays, at, decay)
                store(h, at + S * BLOCK, fma(decay, load(h, at), scaled * splat(B[t * S + s])))


@njit
def _backward_block(T, E, S, reverse, x, dt, A, B, C, D, saved, dy, dx, ddt, dA, dB, dC, dD):
    """Gradients of a block of channels of one image; every pointer is at its first element."""
    rates = _rates(A, S)
    states = np.empty(((CHUNK + 1) * S, BLOCK), np.float32)
    decay_rows = np.empty((CHUNK * S, BLOCK), np.float32)
    sums = np.zeros((2 * S + 4, BLOCK), np.float32)
    rate, h, decays, to_state = pointer(rates), pointer(states), pointer(decay_rows), pointer(sums)
    to_rate, to_skip = pointer(sums[S:]), pointer(sums[2 * S :])
    scaled, to_step, to_scaled = (
        pointer(sums[2 * S + 1 :]), pointer(sums[2 * S + 2 :]), pointer(sums[2 * S + 3 :]),
    )  # fmt: skip
    zero = splat(float32(0))
    for chunk in range((T + CHUNK - 1) // CHUNK - 1, -1, -1):
        begin = chunk * CHUNK
        tokens = min(CHUNK, T - begin)
        for at in range(0, S * BLOCK, LANES):
            store(h, at, load(saved, chunk * S * BLOCK + at))
        _recompute_chunk(begin, tokens, T, E, S, reverse, x, dt, rate, B, h, decays)
        for i in range(tokens - 1, -1, -1):
            t = T - 1 - begin - i if reverse else begin + i
            for e in range(0, BLOCK, LANES):
                store(scaled, e, load(dt, t * E + e) * load(x, t * E + e))
                store(to_step, e, zero)
                store(to_scaled, e, zero)
            for s in range(S):
                b, c = splat(B[t * S + s]), splat(C[t * S + s])
                to_b, to_c = zero, zero
                for e in range(0, BLOCK, LANES):
                    row, at = s * BLOCK + e, (i * S + s) * BLOCK + e
                    out = load(dy, t * E + e)
                    to_c = fma(out, load(h, at + S * BLOCK), to_c)
                    gradient = fma(out, c, load(to_state, row))
                    to_b = fma(gradient, load(scaled, e), to_b)
                    store(to_scaled, e, fma(gradient, b, load(to_scaled, e)))
                    gradient = gradient * load(decays, at)
                    store(to_state, row, gradient)
                    to_exponent = gradient * load(h, at)
                    store(to_step, e, fma(to_exponent, load(rate, row), load(to_step, e)))
                    store(to_rate, row, fma(to_exponent, load(dt, t * E + e), load(to_rate, row)))
                dB[t * S + s] = total(to_b)
                dC[t * S + s] = total(to_c)
            for e in range(0, BLOCK, LANES):
                step, value, out = load(dt, t * E + e), load(x, t * E + e), load(dy, t * E + e)
                through = load(to_scaled, e)
                store(dx, t * E + e, fma(through, step, load(D, e) * out))
                # The step's gradient has A where the sum has A log2(e).
                decayed = load(to_step, e) * splat(float32(1 / LOG2_E))
                store(ddt, t * E + e, fma(through, value, decayed))
                store(to_skip, e, fma(out, value, load(to_skip, e)))
    for j in range(BLOCK):
        dD[j] = to_skip[j]
        for s in range(S):
            dA[j * S + s] = to_rate[s * BLOCK + j]


@task_loop
def _forward(a):
    T, E, S, reverse = a[2], a[3], a[4], a[5] != 0
    blocks, chunks = E // BLOCK, (T + CHUNK - 1) // CHUNK
    while True:
        task = next_task(a)
        if task < 0:
            break
        n, first = task // blocks, task % blocks * BLOCK
        wide, narrow = n * T * E + first, n * T * S
        _forward_block(
            T, E, S, reverse, shifted(floats(a[6]), wide), shifted(floats(a[7]), wide),
            shifted(floats(a[8]), first * S), shifted(floats(a[9]), narrow),
            shifted(floats(a[10]), narrow), shifted(floats(a[11]), first),
            shifted(floats(a[12]), wide), shifted(floats(a[13]), task * chunks * S * BLOCK),
        )  # fmt: skip


@task_loop
def _backward(a):
    T, E, S, reverse = a[2], a[3], a[4], a[5] != 0
    blocks, chunks = E // BLOCK, (T + CHUNK - 1) // CHUNK
    while True:
        task = next_task(a)
        if task < 0:
            break
        n, first = task // blocks, task % blocks * BLOCK
        wide, narrow = n * T * E + first, n * T * S
        _backward_block(
            T, E, S, reverse, shifted(floats(a[6]), wide), shifted(floats(a[7]), wide),
            shifted(floats(a[8]), first * S), shifted(floats(a[9]), narrow),
            shifted(floats(a[10]), narrow), shifted(floats(a[11]), first),
            shifted(floats(a[12]), task * chunks * S * BLOCK), shifted(floats(a[13]), wide),
            shifted(floats(a[14]), wide), shifted(floats(a[15]), wide),
            shifted(floats(a[16]), task * BLOCK * S), shifted(floats(a[17]), task * T * S),
            shifted(floats(a[18]), task * T * S), shifted(floats(a[19]), task * BLOCK),
        )  # fmt: skip


_forward_kernel, _backward_kernel = Kernel(_forward), Kernel(_backward)


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool
    ) -> Tensor:
        x, dt, A, B, C, D = (tensor.contiguous() for tensor in (x, dt, A, B, C, D))
        N, T, E = x.shape
        S = A.shape[1]
        y = torch.empty_like(x)
        saved = x.new_empty(N, E // BLOCK, -(-T // CHUNK), S, BLOCK)
        sizes = (T, E, S, int(reverse))
        _forward_kernel(N * (E // BLOCK), *sizes, x, dt, A, B, C, D, y, saved)
        ctx.save_for_backward(x, dt, A, B, C, D, saved)
        ctx.reverse = reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, saved = ctx.saved_tensors
        N, T, E = x.shape
        S, blocks = A.shape[1], E // BLOCK
        dx, ddt = torch.empty_like(x), torch.empty_like(x)
        dA, dD = x.new_empty(N, E, S), x.new_empty(N, E)
        dB, dC = x.new_empty(N, blocks, T, S), x.new_empty(N, blocks, T, S)
        sizes = (T, E, S, int(ctx.reverse))
        _backward_kernel(
            N * blocks, *sizes, x, dt, A, B, C, D, saved, dy.contiguous(), dx, ddt, dA, dB, dC, dD
        )
        return dx, ddt, dA.sum(0), dB.sum(1), dC.sum(1), dD.sum(0), None


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool = False
) -> Tensor:
    """Scan every image from its first token to its last, or the other way round in reverse.

    ``h[t] = exp(dt[t] A) h[t - 1] + dt[t] B[t] x[t]``, ``y[t] = C[t] h[t] + D x[t]``, with states
    that start at zero. All tensors are float32; all but ``reverse`` get gradients.

    Args:
        x: inputs ``[N, T, E]``, E a multiple of 64.
        dt: step sizes ``[N, T, E]``, positive.
        A: rates ``[E, S]``, negative.
        B: ``[N, T, S]``.
        C: ``[N, T, S]``.
        D: skip ``[E]``.
        reverse: scan from the last token to the first.

    Returns:
        ``[N, T, E]``.

    Raises:
        ValueError: if E is not a multiple of 64.
    """
    if x.shape[-1] % BLOCK:
        raise ValueError(f"the inner width must be a multiple of {BLOCK}, not {x.shape[-1]}")
    return _SelectiveScan.apply(x, dt, A, B, C, D, reverse)
