"""The causal depthwise convolution with gradients, on CPUs, for training; serving never imports it.

Unlike the served kernel it computes one direction, of N images of T tokens each, without SiLU::

    y[t, e] = bias[e] + sum_j weight[e, j] x[t - 3 + j, e]     j = 0 .. 3

with zeros before the first token. The forward pass saves nothing but its inputs. The gradients are
sums over the same four neighbours: of x ``sum_j weight[j] dy[t + 3 - j]``, of the weight
``sum_t dy[t] x[t - 3 + j]``, of the bias ``sum_t dy[t]``. A task is 16 channels of one image; each
writes its own share of the gradients of weight and bias, and PyTorch adds the shares up.
"""

from typing import Any

import torch
from numba import float32, njit
from torch import Tensor

from vimserve.kernels.openmp import Kernel, floats, next_task, task_loop
from vimserve.kernels.simd import LANES, fma, load, shifted, splat, store

TAPS = 4


@njit
def _forward_block(T, E, reverse, x, weight, bias, y):
    """Convolve 16 channels of one image; every pointer is at the first of them."""
    back = E if reverse else -E
    for i in range(T):
        at = (T - 1 - i if reverse else i) * E
        out = load(bias, 0)
        for k in range(max(0, TAPS - 1 - i), TAPS):
            out = fma(load(weight, k * E), load(x, at + back * (TAPS - 1 - k)), out)
        store(y, at, out)


@njit
def _backward_block(T, E, reverse, x, weight, dy, dx, dweight, dbias):
    """Gradients of 16 channels of one image; every pointer is at the first of them."""
    back = E if reverse else -E
    zero = splat(float32(0))
    w0, w1, w2, w3 = zero, zero, zero, zero
    to_bias = zero
    for i in range(T):
        at = (T - 1 - i if reverse else i) * E
        out = load(dy, at)
        to_bias = to_bias + out
        w3 = fma(out, load(x, at), w3)
        if i >= 1:
            w2 = fma(out, load(x, at + back), w2)
        if i >= 2:
            w1 = fma(out, load(x, at + 2 * back), w1)
        if i >= 3:
            w0 = fma(out, load(x, at + 3 * back), w0)
        to_x = zero
        for k in range(max(0, TAPS - T + i), TAPS):
            to_x = fma(load(weight, k * E), load(dy, at - back * (TAPS - 1 - k)), to_x)
        store(dx, at, to_x)
    store(dbias, 0, to_bias)
    store(dweight, 0, w0)
    store(dweight, E, w1)
    store(dweight, 2 * E, w2)
    store(dweight, 3 * E, w3)


@task_loop
def _forward(a):
    T, E, reverse = a[2], a[3], a[4] != 0
    blocks = E // LANES
    while True:
        task = next_task(a)
        if task < 0:
            break
        n, first = task // blocks, task % blocks * LANES
        wide = n * T * E + first
        _forward_block(
            T, E, reverse, shifted(floats(a[5]), wide), shifted(floats(a[6]), first),
            shifted(floats(a[7]), first), shifted(floats(a[8]), wide),
        )  # fmt: skip


@task_loop
def _backward(a):
    T, E, reverse = a[2], a[3], a[4] != 0
    blocks = E // LANES
    while True:
        task = next_task(a)
        if task < 0:
            break
        n, first = task // blocks, task % blocks * LANES
        wide = n * T * E + first
        _backward_block(
            T, E, reverse, shifted(floats(a[5]), wide), shifted(floats(a[6]), first),
            shifted(floats(a[7]), wide), shifted(floats(a[8]), wide),
            shifted(floats(a[9]), n * TAPS * E + first), shifted(floats(a[10]), n * E + first),
        )  # fmt: skip


_forward_kernel, _backward_kernel = Kernel(_forward), Kernel(_backward)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        x, weight, bias = x.contiguous(), weight[:, 0].T.contiguous(), bias.contiguous()
        N, T, E = x.shape
        y = torch.empty_like(x)
        _forward_kernel(N * (E // LANES), T, E, int(reverse), x, weight, bias, y)
        ctx.save_for_backward(x, weight)
        ctx.reverse = reverse
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        N, T, E = x.shape
        dx, dweight, dbias = torch.empty_like(x), x.new_empty(N, TAPS, E), x.new_empty(N, E)
        _backward_kernel(
            N * (E // LANES), T, E, int(ctx.reverse), x, weight, dy.contiguous(), dx, dweight, dbias
        )
        return dx, dweight.sum(0).T[:, None], dbias.sum(0), None


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool = False) -> Tensor:
    """Convolve every channel with its own filter of 4 taps, looking back in time only.

    All tensors are float32; all but ``reverse`` get gradients.

    Args:
        x: ``[N, T, E]``, E a multiple of 16.
        weight: ``[E, 1, 4]``.
        bias: ``[E]``.
        reverse: time runs from the last token to the first.

    Returns:
        ``[N, T, E]``.

    Raises:
        ValueError: if E is not a multiple of 16.
    """
    if x.shape[-1] % LANES:
        raise ValueError(f"the channels must be a multiple of {LANES}, not {x.shape[-1]}")
    return _CausalConv.apply(x, weight, bias, reverse)
