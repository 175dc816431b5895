"""Matrix products for kernels whose next step reads the result while it is in the cache.

A block of the result stays in registers while the inputs go by: ``ROWS`` tokens by ``VECTORS``
vectors of outputs. So the weight is laid out once, in panels of as many outputs as a block has.
"""

import torch
import torch.nn.functional as F
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from vimserve.kernels.simd import LANES, _address, _constant, _fma, _splat, shifted
from vimserve.kernels.target import AVX512

# The sums of a block, and a row of the panel, fill the registers: 32 of one vector each with
# AVX-512, else two or four to a vector.
ROWS, VECTORS = (8, 3) if AVX512 else (6, 1)
PANEL = VECTORS * LANES


def pack_weight(weight: Tensor) -> Tensor:
    """``[N, K]`` to flat panels ``[K, PANEL]``, the last as wide as the rest of N.

    N is padded with zeros to a multiple of 16.
    """
    padded = F.pad(weight.detach(), (0, 0, 0, -len(weight) % LANES))
    return torch.cat([panel.T.flatten() for panel in padded.split(PANEL)])


def _block(vectors: int):
    """The product of ``ROWS`` rows with a panel of so many vectors.

    Rows after ``last`` repeat that row, and write the same numbers to the same place.
    """

    @intrinsic
    def block(_context, last, a, a_row, panel, inputs, out, out_row):
        def codegen(context, builder, _signature, args):
            last, a, a_row, panel, inputs, out, out_row = args
            i64 = last.type
            numbers = [
                builder.select(builder.icmp_signed("<", i64(r), last), i64(r), last)
                for r in range(ROWS)
            ]
            rows = [builder.gep(a, [builder.mul(n, a_row)]) for n in numbers]
            sums = [
                [cgutils.alloca_once_value(builder, _constant(0.0)) for _ in range(vectors)]
                for _ in range(ROWS)
            ]
            with cgutils.for_range(builder, inputs) as loop:
                at = builder.mul(loop.index, i64(vectors * LANES))
                of_panel = [
                    builder.load(_address(builder, panel, builder.add(at, i64(v * LANES))), align=4)
                    for v in range(vectors)
                ]
                for row, sums_of_row in zip(rows, sums, strict=True):
                    value = _splat(builder, builder.load(builder.gep(row, [loop.index])))
                    for weight, sum_ in zip(of_panel, sums_of_row, strict=True):
                        builder.store(_fma(builder, value, weight, builder.load(sum_)), sum_)
            for n, sums_of_row in zip(numbers, sums, strict=True):
                to = builder.gep(out, [builder.mul(n, out_row)])
                for v, sum_ in enumerate(sums_of_row):
                    address = _address(builder, to, i64(v * LANES))
                    builder.store(builder.load(sum_), address, align=4)
            return context.get_dummy_value()

        i64 = types.int64
        return types.none(i64, a, i64, panel, i64, out, i64), codegen

    return block


_one, _two, _three = _block(1), _block(2), _block(3)


@njit
def multiply(rows, a, a_row, weight, inputs, outputs, out, out_row):
    """``out = a @ weight.T`` for some rows of float32, the weight as ``pack_weight`` lays it out.

    Rows of ``out`` are written up to the next multiple of 16 of ``outputs``.
    """
    for n in range(0, outputs, PANEL):
        panel, vectors = shifted(weight, n * inputs), (outputs - n + LANES - 1) // LANES
        for m in range(0, rows, ROWS):
            last, to = min(ROWS, rows - m) - 1, shifted(out, m * out_row + n)
            if vectors >= 3 and VECTORS == 3:
                _three(last, shifted(a, m * a_row), a_row, panel, inputs, to, out_row)
            elif vectors == 2 and VECTORS == 3:
                _two(last, shifted(a, m * a_row), a_row, panel, inputs, to, out_row)
            else:
                _one(last, shifted(a, m * a_row), a_row, panel, inputs, to, out_row)
