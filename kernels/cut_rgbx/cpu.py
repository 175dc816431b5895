"""Pillow's pixels cut into patches in one pass, in the thread that calls.

NumPy first copies such a picture channel by channel and then patch by patch. Here the row of a
patch is read once, as 64 bytes, of which three shuffles make the rows of its channels.
"""

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from vimserve.kernels.cut_rgbx import PATCH, PIXEL
from vimserve.kernels.openmp import Kernel, next_task, octets, task_loop
from vimserve.kernels.simd import shifted

CHANNELS = 3
CELLS = PATCH * PATCH


@intrinsic
def _part(_context, pixels, out):
    """Write the channels of the ``PATCH`` pixels at ``pixels``, each ``CELLS`` after another."""

    def codegen(context, builder, _signature, args):
        row = ir.VectorType(ir.IntType(8), PATCH * PIXEL)
        loaded = builder.load(builder.bitcast(args[0], row.as_pointer()), align=1)
        for channel in range(CHANNELS):
            lanes = range(channel, PATCH * PIXEL, PIXEL)
            picked = ir.Constant(ir.VectorType(ir.IntType(32), PATCH), [*lanes])
            of_channel = builder.shuffle_vector(loaded, ir.Constant(row, ir.Undefined), picked)
            place = builder.gep(args[1], [ir.Constant(ir.IntType(64), channel * CELLS)])
            place = builder.bitcast(place, of_channel.type.as_pointer())
            builder.store(of_channel, place, align=1)
        return context.get_dummy_value()

    return types.none(pixels, out), codegen


@task_loop
def _cut(a):
    rows, cols, stride, pixels, pixels_row = a[2], a[3], a[4], octets(a[5]), a[6]
    out = octets(a[7])
    while next_task(a) >= 0:
        for i in range(rows):
            for j in range(cols):
                patch = shifted(out, (i * cols + j) * CHANNELS * CELLS)
                corner = shifted(pixels, i * stride * pixels_row + j * stride * PIXEL)
                for y in range(PATCH):
                    _part(shifted(corner, y * pixels_row), shifted(patch, y * PATCH))


_kernel = Kernel(_cut)


def cut_rgbx(image: Tensor, stride: int) -> Tensor:
    """Patches ``[rows * cols, 3 * PATCH * PATCH]`` in (channel, row, column) order.

    It starts no OpenMP threads: there is a single task.

    Args:
        image: ``[3, H, W]``, of which ``has_cut_rgbx`` holds, at least ``PATCH`` along each side.
        stride: from one patch to the next, in pixels.
    """
    rows, cols = ((side - PATCH) // stride + 1 for side in image.shape[1:])
    out = torch.empty(rows * cols, CHANNELS * CELLS, dtype=torch.uint8)
    _kernel(1, rows, cols, stride, image, image.stride(1), out)
    return out
