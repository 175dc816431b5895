"""A block of states in registers, for Numba functions: UNROLL states of LANES channels.

A function handles the states of a block as a tuple of vectors, of which LLVM keeps each in
registers from one token to the next.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vimserve.kernels import simd
from vimserve.kernels.simd import vector
from vimserve.kernels.target import REGISTER_LANES

# Where a vector of LANES floats takes four registers, eight states are more than the registers of
# an ARM hold: LLVM would move them to the stack and back at every token. Where it takes two, on
# AVX2, fewer states are moved less often, but then the loop's other work is done for fewer; no
# choice gains anything there (README.md has the counts).
UNROLL = 8 if REGISTER_LANES >= 8 else 2

_block = types.UniTuple(vector, UNROLL)


def _row(builder, pointer, at, stride, s):
    offset = builder.add(at, builder.mul(stride, ir.Constant(at.type, s)))
    return simd._address(builder, pointer, offset)


def _broadcast(builder, pointer, at, s):
    offset = builder.add(at, ir.Constant(at.type, s))
    return simd._splat(builder, builder.load(builder.gep(pointer, [offset])))


@intrinsic
def load_block(_context, pointer, at, stride):
    """Read the vectors at ``pointer[at]``, ``pointer[at + stride]`` and so on."""

    def codegen(context, builder, signature, args):
        rows = [builder.load(_row(builder, *args, s), align=4) for s in range(UNROLL)]
        return context.make_tuple(builder, signature.return_type, rows)

    return _block(pointer, types.int64, types.int64), codegen


@intrinsic
def store_block(_context, pointer, at, stride, block):
    """Write the vectors to ``pointer[at]``, ``pointer[at + stride]`` and so on."""

    def codegen(context, builder, _signature, args):
        for s, row in enumerate(cgutils.unpack_tuple(builder, args[3], UNROLL)):
            builder.store(row, _row(builder, *args[:3], s), align=4)
        return context.get_dummy_value()

    return types.none(pointer, types.int64, types.int64, block), codegen


@intrinsic
def advance(_context, h, A, dt, dtx, b, at):
    """The states ``2^(dt A) h + dtx b`` of the next token; ``b[at]`` is the first state's."""

    def codegen(context, builder, signature, args):
        h, A, dt, dtx, b, at = args
        rows = []
        for s in range(UNROLL):
            state, rate = (builder.extract_value(block, s) for block in (h, A))
            decay = simd._exp2(builder, builder.fmul(dt, rate))
            inflow = builder.fmul(dtx, _broadcast(builder, b, at, s))
            rows.append(simd._fma(builder, decay, state, inflow))
        return context.make_tuple(builder, signature.return_type, rows)

    return h(h, A, dt, dtx, b, types.int64), codegen


@intrinsic
def read_out(_context, y, h, c, at):
    """``y`` plus the sum of ``c h``, in two chains; ``c[at]`` is the first state's."""

    def codegen(_context, builder, _signature, args):
        y, h, c, at = args
        even, odd = y, None
        for s, state in enumerate(cgutils.unpack_tuple(builder, h, UNROLL)):
            weight = _broadcast(builder, c, at, s)
            if s % 2 == 0:
                even = simd._fma(builder, state, weight, even)
            elif odd is None:
                odd = builder.fmul(state, weight)
            else:
                odd = simd._fma(builder, state, weight, odd)
        return builder.fadd(even, odd)

    return y(y, h, c, types.int64), codegen
