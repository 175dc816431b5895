"""Functions of the Triton kernels: fast exponentials, wide loads, and the search for sequences."""

import os

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)

# Triton's interpreter cannot run inline assembly.
ASSEMBLY = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")


@triton.jit
def exp2(v):
    """2^v in one instruction (``tl.exp2`` adds three for subnormal results)."""
    if ASSEMBLY:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(v)


@triton.jit
def reciprocal(v):
    """1 / v in one instruction."""
    if ASSEMBLY:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [v], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / v


@triton.jit
def silu(v):
    """Sigmoid-weighted linear unit, v / (1 + e^-v)."""
    return v * reciprocal(1.0 + exp2(v * -LOG2_E))


@triton.jit
def softplus(v):
    """log(1 + e^v): the logarithm as a polynomial in e^-|v|, relative error below 1e-6.

    The hardware's logarithm of 1 + e would lose small step sizes to rounding. It would also use
    the unit that the scan's exponentials already keep busy.
    """
    e = exp2(tl.abs(v) * -LOG2_E)
    p = 0.0052326880 * e - 0.0295052193
    p = p * e + 0.0782259330
    p = p * e - 0.1366324574
    p = p * e + 0.1910600662
    p = p * e - 0.2484298199
    p = p * e + 0.3331909776
    p = p * e - 0.4999949336
    p = p * e + 0.9999999404
    return e * p + tl.maximum(v, 0.0)


@triton.jit
def load_row(row, COUNT: tl.constexpr, WIDE: tl.constexpr):
    """COUNT numbers from ``row`` on, as a tuple of float32 scalars.

    WIDE reads four at a time; then the row must be float32 and aligned to 16 bytes, and COUNT a
    multiple of 4.
    """
    values = ()
    if WIDE and ASSEMBLY:
        for i in tl.static_range(0, COUNT, 4):
            values = values + tl.inline_asm_elementwise(
                "ld.global.nc.v4.f32 {$0, $1, $2, $3}, [$4];", "=f,=f,=f,=f,l",
                [(row + i).to(tl.int64)],
                dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1,
            )  # fmt: skip
    else:
        for i in tl.static_range(COUNT):
            values = values + (tl.load(row + i).to(tl.float32),)
    return values


@triton.jit
def prefetch(p):
    """Ask for the cache lines of these addresses, which need not be valid, and go on."""
    if ASSEMBLY:
        tl.inline_asm_elementwise(
            "prefetch.global.L1 [$1]; mov.u32 $0, 0;", "=r,l", [p.to(tl.int64)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def find_sequence(cu_seqlens, N, rounds, t):
    """For every token t, the n with ``cu_seqlens[n] <= t < cu_seqlens[n + 1]``, by bisection.

    ``t`` is a scalar or a block in 0 .. T - 1, and ``rounds`` at least log2(N). The result is never
    an empty sequence.
    """
    low = t * 0
    high = low + N
    for _ in range(rounds):
        middle = (low + high) // 2
        before = tl.load(cu_seqlens + middle) <= t
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    return low


@triton.jit
def between(i, inputs, outputs):
    """The two inputs beside output i of a linear interpolation, and the weight of the second.

    As PyTorch computes them with ``align_corners=False``; for any i the inputs exist.
    """
    scale = tl.div_rn(inputs.to(tl.float32), outputs.to(tl.float32))
    at = tl.maximum((i.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    first = tl.minimum(at.to(tl.int32), inputs - 1)
    second = tl.minimum(first + 1, inputs - 1)
    return first, second, tl.minimum(at - first.to(tl.float32), 1.0)
