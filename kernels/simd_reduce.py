"""Reductions of a vector's lanes to one number, for Numba functions."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vimserve.kernels.simd import LANES, _maximum


def _reduce(builder, combine, x):
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        halves = ir.VectorType(ir.IntType(32), lanes)
        low = builder.shuffle_vector(x, x, ir.Constant(halves, list(range(lanes))))
        high = builder.shuffle_vector(x, x, ir.Constant(halves, list(range(lanes, 2 * lanes))))
        x = combine(low, high)
    return builder.extract_element(x, ir.Constant(ir.IntType(32), 0))


@intrinsic
def total(_context, x):
    """The sum of the lanes."""

    def codegen(_context, builder, _signature, args):
        return _reduce(builder, builder.fadd, args[0])

    return types.float32(x), codegen


@intrinsic
def largest(_context, x):
    """The maximum of the lanes."""

    def codegen(_context, builder, _signature, args):
        return _reduce(builder, lambda a, b: _maximum(builder, a, b), args[0])

    return types.float32(x), codegen


@intrinsic
def smallest(_context, x):
    """The minimum of the lanes."""

    def codegen(_context, builder, _signature, args):
        def minimum(a, b):
            return builder.select(builder.fcmp_unordered("<", a, b), a, b)

        return _reduce(builder, minimum, args[0])

    return types.float32(x), codegen
