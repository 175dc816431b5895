"""Turning pairs of lanes, for Numba functions: sine and cosine as polynomials."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vimserve.kernels import simd
from vimserve.kernels.simd import LANES, vector

# Minimax polynomials in u = r^2 on [-pi/2, pi/2], highest power first: (sin(r) / r - 1) / u, with
# which the sine's absolute error is 5e-9, and (cos(r) - 1) / u (3e-10).
SINE = (2.6000207e-06, -1.9806600e-04, 8.3330171e-03, -1.6666657e-01)
COSINE = (-2.6076785e-07, 2.4761868e-05, -1.3888403e-03, 4.1666642e-02, -5.0e-01)
# Pi as a sum of two numbers, the first of which times any whole number below 2^16 is exact.
PI_HIGH, PI_LOW = 3.140625, 9.67653589793e-4
PER_PI = 0.3183098861837907

_HALF_FLOATS = ir.VectorType(ir.FloatType(), LANES // 2)
_INTS = ir.VectorType(ir.IntType(32), LANES)


def _lanes(indices: list[int]):
    return ir.Constant(_INTS, indices)


@intrinsic
def load_twice(_context, pointer, offset):
    """Read 8 floats, from ``pointer[offset]`` on, and put each into two lanes side by side."""

    def codegen(_context, builder, _signature, args):
        address = builder.bitcast(builder.gep(args[0], [args[1]]), _HALF_FLOATS.as_pointer())
        half = builder.load(address, align=4)
        return builder.shuffle_vector(half, half, _lanes([i // 2 for i in range(LANES)]))

    return vector(pointer, types.int64), codegen


@intrinsic
def turn(_context, x, angle):
    """Turn the lanes (2i, 2i + 1) of x, as (a, b), to (a cos - b sin, b cos + a sin).

    ``angle`` has each pair's angle, twice, in radians; below 2^16 pi the error is below 1e-6 of the
    pair's length, or half a unit in the last place of the angle. An angle of 0 changes nothing.
    """

    def codegen(_context, builder, _signature, args):
        x, angle = args
        cos, sin, sign = _cos_sin(builder, angle)
        bits = builder.xor(builder.bitcast(x, _INTS), sign)
        x = builder.bitcast(bits, simd._FLOATS)
        swapped = builder.shuffle_vector(x, x, _lanes([i ^ 1 for i in range(LANES)]))
        away = ir.Constant(_INTS, [-(2**31), 0] * (LANES // 2))
        sin = builder.bitcast(builder.xor(builder.bitcast(sin, _INTS), away), simd._FLOATS)
        return simd._fma(builder, swapped, sin, builder.fmul(x, cos))

    return vector(x, angle), codegen


def _cos_sin(builder, angle):
    """Cosine and sine of the angle less k pi, and the sign bit of (-1)^k, by which both differ."""
    constant = simd._constant
    rounded = simd._fma(builder, angle, constant(PER_PI), constant(simd._ROUND))
    k = builder.fsub(rounded, constant(simd._ROUND))
    r = simd._fma(builder, k, constant(-PI_HIGH), angle)
    r = simd._fma(builder, k, constant(-PI_LOW), r)
    u = builder.fmul(r, r)
    cos = simd._fma(builder, simd._polynomial(builder, COSINE, u), u, constant(1.0))
    odd = builder.fmul(simd._polynomial(builder, SINE, u), u)
    sign = builder.shl(builder.bitcast(rounded, _INTS), _lanes([31] * LANES))
    return cos, simd._fma(builder, odd, r, r), sign
