"""Vectors of 16 floats for Numba functions, with the operations that the kernels need.

LLVM vectorises simple loops by itself, but keeps a block of the scan's states in registers from
one time step to the next only with a vector type. If the processor's registers are shorter, LLVM
splits the vectors.
"""

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from vimserve.kernels.target import AVX512

LANES = 16
LOG2_E = 1.4426950408889634

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)

# Adding 1.5 * 2^23 rounds a float32 to the nearest integer and leaves that integer in its low bits.
_ROUND = 12582912.0

# Minimax polynomials, highest power first: 2^f on [-1/2, 1/2] (relative error 7.5e-8) and
# log(1 + e) / e on [0, 1] (3e-8).
_EXP2 = (0.0013276471, 0.0096755419, 0.0555071309, 0.2402212024, 0.6931469440, 1.0)
_LOG1P = (
    0.0052326880, -0.0295052193, 0.0782259330, -0.1366324574, 0.1910600662,
    -0.2484298199, 0.3331909776, -0.4999949336, 0.9999999404,
)  # fmt: skip


class Vector(types.Type):
    """16 float32 values."""


vector = Vector(name="float32x16")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:
        super().__init__(manager, fe_type, _FLOATS)


def _constant(value: float):
    return ir.Constant(_FLOATS, [value] * LANES)


def _call(builder, name, *args):
    """Call an LLVM intrinsic that returns a vector."""
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(_FLOATS, [arg.type for arg in args]), name
    )
    return builder.call(function, args)


def _fma(builder, a, b, c):
    # On a CPU without the instruction, llvm.fma would call a function for every lane.
    return _call(builder, f"llvm.fmuladd.v{LANES}f32", a, b, c)


def _polynomial(builder, coefficients: tuple[float, ...], x):
    result = _constant(coefficients[0])
    for coefficient in coefficients[1:]:
        result = _fma(builder, result, x, _constant(coefficient))
    return result


def _maximum(builder, a, b):
    return builder.select(builder.fcmp_unordered(">", a, b), a, b)


def _exp2(builder, x):
    if AVX512:
        return _exp2_avx512(builder, x)
    x = _maximum(builder, x, _constant(-126.0))
    rounded = builder.fadd(x, _constant(_ROUND))
    fraction = builder.fsub(x, builder.fsub(rounded, _constant(_ROUND)))
    mantissa = builder.bitcast(_polynomial(builder, _EXP2, fraction), _INTS)
    exponent = builder.shl(builder.bitcast(rounded, _INTS), ir.Constant(_INTS, [23] * LANES))
    return builder.bitcast(builder.add(mantissa, exponent), _FLOATS)


def _exp2_avx512(builder, x):
    """Two instructions round and scale, for any exponent; a third of ``_exp2`` does the same."""
    rounded = _call(builder, f"llvm.roundeven.v{LANES}f32", x)
    mantissa = _polynomial(builder, _EXP2, builder.fsub(x, rounded))
    every_lane, as_set = ir.Constant(ir.IntType(LANES), -1), ir.Constant(ir.IntType(32), 4)
    scaled = mantissa, rounded, ir.Constant(_FLOATS, ir.Undefined), every_lane, as_set
    return _call(builder, "llvm.x86.avx512.mask.scalef.ps.512", *scaled)


def _splat(builder, value):
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))


def _address(builder, pointer, offset):
    return builder.bitcast(builder.gep(pointer, [offset]), _FLOATS.as_pointer())


@intrinsic
def load(_context, pointer, offset):
    """Read 16 floats, from ``pointer[offset]`` on."""

    def codegen(_context, builder, _signature, args):
        return builder.load(_address(builder, *args), align=4)

    return vector(pointer, types.int64), codegen


@intrinsic
def store(_context, pointer, offset, value):
    """Write 16 floats, from ``pointer[offset]`` on."""

    def codegen(context, builder, _signature, args):
        builder.store(args[2], _address(builder, *args[:2]), align=4)
        return context.get_dummy_value()

    return types.none(pointer, types.int64, value), codegen


@intrinsic
def prefetch(_context, pointer, offset):
    """Prefetch the cache line of ``pointer[offset]``; an invalid address does no harm."""

    def codegen(context, builder, _signature, args):
        byte_pointer, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
        function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(
            builder.module, function_type, "llvm.prefetch.p0"
        )
        address = builder.bitcast(builder.gep(args[0], [args[1]]), byte_pointer)
        builder.call(function, (address, i32(0), i32(3), i32(1)))  # to read data, into L1
        return context.get_dummy_value()

    return types.none(pointer, types.int64), codegen


@intrinsic
def splat(_context, value):
    """One number in every lane."""

    def codegen(_context, builder, _signature, args):
        return _splat(builder, args[0])

    return vector(types.float32), codegen


@intrinsic
def fma(_context, a, b, c):
    """A * b + c, rounded once where the CPU can."""

    def codegen(_context, builder, _signature, args):
        return _fma(builder, *args)

    return vector(a, b, c), codegen


@intrinsic
def exp2(_context, x):
    """2^x for x < 127, relative error below 3e-7; at most 2^-126 for anything below -126."""

    def codegen(_context, builder, _signature, args):
        return _exp2(builder, args[0])

    return vector(x), codegen


@intrinsic
def softplus(_context, x):
    """log(1 + e^x), relative error below 1e-6."""

    def codegen(_context, builder, _signature, args):
        zero = _constant(0.0)
        negative = builder.fsub(zero, _maximum(builder, args[0], builder.fsub(zero, args[0])))
        e = _exp2(builder, builder.fmul(negative, _constant(LOG2_E)))
        return _fma(builder, e, _polynomial(builder, _LOG1P, e), _maximum(builder, args[0], zero))

    return vector(x), codegen


def _reciprocal(builder, x):
    """1 / x for 1 <= x < 2^126, relative error below 2e-7.

    A division of 16 floats keeps the processor's divider busy for 16 cycles; this is 7 operations.
    """
    # Subtracting the bits negates the exponent, and the mantissa nearly; each round of Newton's
    # method squares the relative error: 0.05, 3e-3, 7e-6, 6e-8.
    bits = builder.sub(ir.Constant(_INTS, [0x7EF311C7] * LANES), builder.bitcast(x, _INTS))
    estimate, negative = builder.bitcast(bits, _FLOATS), builder.fneg(x)
    for _ in range(3):
        error = _fma(builder, negative, estimate, _constant(1.0))
        estimate = _fma(builder, estimate, error, estimate)
    return estimate


@intrinsic
def silu(_context, x):
    """Sigmoid-weighted linear unit, x / (1 + e^-x)."""

    def codegen(_context, builder, _signature, args):
        # The bound keeps exp2 in its range; below it the quotient is negligible in any case.
        bounded = _maximum(builder, args[0], _constant(-87.0))
        e = _exp2(builder, builder.fmul(bounded, _constant(-LOG2_E)))
        return builder.fmul(args[0], _reciprocal(builder, builder.fadd(e, _constant(1.0))))

    return vector(x), codegen


@intrinsic
def where_less(_context, a, b, then, otherwise):
    """``then`` in the lanes where a < b, ``otherwise`` in the others."""

    def codegen(_context, builder, _signature, args):
        less = builder.fcmp_ordered("<", args[0], args[1])
        return builder.select(less, args[2], args[3])

    return vector(a, b, then, otherwise), codegen


def _overload_elementwise(symbol, emit: str) -> None:
    @intrinsic
    def elementwise(_context, a, b):
        def codegen(_context, builder, _signature, args):
            return getattr(builder, emit)(*args)

        return vector(a, b), codegen

    @overload(symbol)
    def choose(a, b):
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: elementwise(a, b)
        return None


_overload_elementwise(operator.add, "fadd")
_overload_elementwise(operator.sub, "fsub")
_overload_elementwise(operator.mul, "fmul")
_overload_elementwise(operator.truediv, "fdiv")


@intrinsic
def shifted(_context, pointer, offset):
    """``pointer + offset`` in elements."""

    def codegen(_context, builder, _signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def pointer(_context, array):
    """The address of a C-contiguous array's first element."""

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen
