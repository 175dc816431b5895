"""Turning pairs of channels in Triton kernels: sine and cosine as polynomials."""

import triton
import triton.language as tl

PER_PI = tl.constexpr(0.3183098861837907)
# Pi as a sum of two numbers, the first of which times any whole number below 2^16 is exact.
PI_HIGH = tl.constexpr(3.140625)
PI_LOW = tl.constexpr(9.67653589793e-4)
# Adding 1.5 * 2^23 rounds a float32 to the nearest integer and leaves that integer in its low bits.
ROUND = tl.constexpr(12582912.0)


@triton.jit
def turn_pairs(x, angle):
    """Turn the columns (2i, 2i + 1) of x, as (a, b), to (a cos - b sin, b cos + a sin).

    The hardware's sine is good for small angles only, and the library's slow path for large ones
    takes memory. These polynomials are those of ``kernels.simd_turn``.

    Args:
        x: ``[rows, columns]`` float32.
        angle: ``[rows, columns / 2]`` in radians, below 2^16 pi.
    """
    rounded = angle * PER_PI + ROUND
    k = rounded - ROUND
    r = (angle - k * PI_HIGH) - k * PI_LOW
    u = r * r
    sin = 2.6000207e-06 * u - 1.9806600e-04
    sin = sin * u + 8.3330171e-03
    sin = sin * u - 1.6666657e-01
    sin = sin * u * r + r
    cos = -2.6076785e-07 * u + 2.4761868e-05
    cos = cos * u - 1.3888403e-03
    cos = cos * u + 4.1666642e-02
    cos = cos * u - 0.5
    cos = cos * u + 1.0
    # Both change their sign with every pi.
    sign = 1.0 - 2.0 * (rounded.to(tl.int32, bitcast=True) & 1).to(tl.float32)
    a, b = tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))
    a = a * sign
    b = b * sign
    turned = tl.join(a * cos - b * sin, b * cos + a * sin)
    return tl.reshape(turned, (x.shape[0], x.shape[1]))
