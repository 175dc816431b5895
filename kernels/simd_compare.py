"""Comparisons of vectors lane by lane, for Numba functions; beside a NaN they are unordered."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vimserve.kernels.simd import LANES, vector


@intrinsic
def lesser(_context, a, b):
    """The smaller of two numbers in every lane; b if one is NaN."""

    def codegen(_context, builder, _signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return vector(a, b), codegen


@intrinsic
def greater(_context, a, b):
    """The larger of two numbers in every lane; b if one is NaN."""

    def codegen(_context, builder, _signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return vector(a, b), codegen


@intrinsic
def bits_less(_context, a, b):
    """An integer whose bit i says whether a < b in lane i."""

    def codegen(_context, builder, _signature, args):
        less = builder.fcmp_ordered("<", *args)
        return builder.zext(builder.bitcast(less, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(a, b), codegen


@intrinsic
def lowest_bit(_context, bits):
    """The number of the lowest bit that is set, of an integer that is not 0."""

    def codegen(_context, builder, _signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
