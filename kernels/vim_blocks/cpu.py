"""Any run of Vim's blocks on CPUs, in one parallel region.

Between two of PyTorch's or this project's operations only one thread works, in Python; for small
images that is a quarter of the time. Here all threads go through all steps of all blocks, and wait
for each other where a step reads what others wrote:

1. A run of tokens: the last block's ``out_proj``, residual add and norm, ``in_proj``.
2. A run of tokens: convolution and ``x_proj``, in all directions.
3. A block of channels of a sequence: the scan. It overwrites what the convolution has read.

The number of threads cannot change meanwhile, so a run ends after the block in which it should.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from vimserve.kernels.add_norm import Turn
from vimserve.kernels.add_norm.cpu import add_norm_row
from vimserve.kernels.checks import check_boundaries, check_tensor
from vimserve.kernels.conv1d.cpu import convolve_run
from vimserve.kernels.openmp import (
    Kernel,
    addresses,
    enter,
    floats,
    ints,
    leave,
    longs,
    next_task,
    read,
    task_loop,
)
from vimserve.kernels.selective_scan.cpu import scan_arguments, scan_tasks
from vimserve.kernels.simd import LANES, pointer, shifted
from vimserve.kernels.simd_product import multiply, pack_weight
from vimserve.kernels.thread_limit import ThreadLimit
from vimserve.kernels.vim_blocks.weights import BlockWeights

TOKENS = 16
STEPS = 3
_BEFORE, _HIDDEN = 5, 6  # arguments of ``_project_tasks``


@njit
def _project_tasks(a, last):
    """Multiply by ``out_proj``, add to the residual stream, normalise, multiply by ``in_proj``.

    Without ``out_proj`` the rows are read from ``hidden``; the last time they go there.
    """
    T, D, E, before = a[2], a[3], a[4], a[5] != 0
    hidden, mixed, xz_row, out_weight = floats(a[6]), floats(a[7]), a[8], floats(a[9])
    residual, gain, eps, in_weight = floats(a[10]), floats(a[11]), floats(a[12]), floats(a[13])
    turns, both, positions, rates = a[14] != 0, a[15] != 0, floats(a[16]), floats(a[17])
    scratch = np.empty((2, TOKENS * D), dtype=np.float32)
    while True:
        task = next_task(a)
        if task < 0:
            break
        # Here, because Numba frees an array after the last place that names it.
        added, normed = pointer(scratch), pointer(scratch[1:])
        first = task * TOKENS
        tokens = min(TOKENS, T - first)
        of_hidden, xz = shifted(hidden, first * D), shifted(mixed, first * xz_row)
        if last:
            multiply(tokens, xz, xz_row, out_weight, E, D, of_hidden, D)
            continue
        rows = of_hidden
        if before:
            rows = added
            multiply(tokens, xz, xz_row, out_weight, E, D, rows, D)
        for i in range(tokens):
            t = first + i
            add_norm_row(
                shifted(rows, i * D), shifted(residual, t * D), gain, eps[0],
                shifted(normed, i * D), D, True, turns, both, shifted(positions, 2 * t), rates,
            )  # fmt: skip
        multiply(tokens, normed, D, in_weight, D, 2 * E, xz, xz_row)


@njit
def _convolve_tasks(a, limit, followed, stop):
    """Convolve, and multiply by ``x_proj`` while the convolved rows are in the cache.

    The one who does the first of it decides for all threads whether this is the last block.
    """
    T, E, P, C, sequences, reverse = a[2], a[3], a[4], a[5], a[6], a[7]
    cu_seqlens, x, x_row, taps, bias = ints(a[8]), floats(a[9]), a[10], floats(a[11]), floats(a[12])
    weight, weight_way, convolved = floats(a[13]), a[14], floats(a[15])
    projected, projected_row = floats(a[16]), a[17]
    while True:
        task = next_task(a)
        if task < 0:
            break
        if task == 0 and read(limit) != followed:
            stop[0] = 1
        first, last = task * TOKENS, min(task * TOKENS + TOKENS, T)
        convolve_run(
            first, last, T, E, C, sequences, reverse, cu_seqlens, x, x_row, taps, bias, convolved
        )
        for k in range(C):
            row = k * T + first
            multiply(
                last - first, shifted(convolved, row * E), E, shifted(weight, k * weight_way), E, P,
                shifted(projected, row * projected_row), projected_row,
            )  # fmt: skip


@task_loop
def _blocks(a):
    blocks, gate, stops, limit, followed = a[2], longs(a[3]), longs(a[4]), longs(a[5]), a[6]
    project, project_row, convolve, convolve_row = longs(a[7]), a[8], longs(a[9]), a[10]
    scan, scan_row = longs(a[11]), a[12]
    for i in range(blocks + 1):
        last = i == blocks or (i > 0 and read(shifted(stops, i - 1)) != 0)
        enter(gate)
        _project_tasks(shifted(project, i * project_row), last)
        leave(gate)
        if last:
            break
        gate = shifted(gate, 2)
        enter(gate)
        _convolve_tasks(shifted(convolve, i * convolve_row), limit, followed, shifted(stops, i))
        leave(gate)
        gate = shifted(gate, 2)
        enter(gate)
        scan_tasks(shifted(scan, i * scan_row))
        leave(gate)
        gate = shifted(gate, 2)


_kernel = Kernel(_blocks)


class _Packed(NamedTuple):
    """A block's weights as the steps read them, each contiguous."""

    norm: Tensor
    in_proj: Tensor
    taps: Tensor  # [C, 4, E]
    conv_bias: Tensor
    x_proj: Tensor  # [C, _]
    dt_weight: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor
    out_proj: Tensor


class VimBlocks:
    """Blocks of equal shapes, in one parallel region for any run of them.

    Args:
        blocks: their weights, with equal directions.
        eps: added to the mean square by the norms.

    Raises:
        ValueError: if a weight has a wrong shape, dtype or device; the message names it.
    """

    def __init__(self, blocks: Sequence[BlockWeights], eps: float) -> None:
        for block in blocks:
            block.check()
        first = blocks[0]
        self._width, self._inner = first.out_proj.shape
        self._splits = [first.dt_weight.shape[2], first.A.shape[2], first.A.shape[2]]
        self._reverse, self._conv_reverse = first.reverse, first.conv_reverse
        self._eps = torch.tensor([eps])
        self._packed = [_pack(block) for block in blocks]
        # A block's first step multiplies by ``out_proj`` of the block before.
        table = np.array([addresses(packed) for packed in self._packed])
        self._addresses = np.concatenate([table, table[-1:]])
        self._addresses[1:, -1] = table[:, -1]

    def __call__(
        self,
        begin: int,
        end: int,
        hidden: Tensor,
        residual: Tensor | None,
        cu_seqlens: Tensor,
        turn: Turn | None = None,
        limit: ThreadLimit | None = None,
    ) -> tuple[Tensor, Tensor, int]:
        """Run the blocks from ``begin`` to ``end - 1`` over packed sequences, or some of them.

        Args:
            begin: the first block.
            end: the block after the last.
            hidden: ``[T, D]`` float32, contiguous.
            residual: ``[T, D]`` float32, contiguous, overwritten; None at the model's first block.
            cu_seqlens: ``[N + 1]`` int32, from 0 to T.
            turn: as ``kernels.add_norm`` takes it, at every block.
            limit: of the threads; the run ends after a block if it is not what was followed.

        Returns:
            Hidden state and residual ``[T, D]`` after the last block that was run, and the number
            of the next one.

        Raises:
            ValueError: if an argument has a wrong shape, dtype, device or layout; the message names
                it.
        """
        T, D, E, P = len(hidden), self._width, self._inner, sum(self._splits)
        K, C, N = len(self._reverse), len(self._conv_reverse), len(cu_seqlens) - 1
        if residual is None:
            residual = torch.zeros_like(hidden)
        for name, rows in (("hidden", hidden), ("residual", residual)):
            check_tensor(name, rows, "T, D", (T, D), self._eps.device, (torch.float32,))
            if not rows.is_contiguous():
                raise ValueError(f"{name} must be contiguous: call .contiguous()")
        check_boundaries(cu_seqlens, T, hidden.device)
        if turn:
            turn.check(T, D, hidden.device)

        weights, runs, padded = self._packed[begin], -(-T // TOKENS), -(-P // LANES) * LANES
        xz, convolved = hidden.new_empty(T, 2 * E), hidden.new_empty(C, T, E)
        projected, out = hidden.new_empty(C, T, padded), torch.empty_like(hidden)
        x, z = xz.chunk(2, dim=1)
        project = self._table(begin, end + 1, runs, [
            T, D, E, 1, hidden, xz, xz.stride(0), weights.out_proj, residual, weights.norm,
            self._eps, weights.in_proj, int(turn is not None),
            int(turn is not None and turn.residual), turn.positions if turn else 0,
            turn.rates if turn else 0,
        ])  # fmt: skip
        project[0, _BEFORE], project[1:, _HIDDEN] = 0, out.data_ptr()
        convolve = self._table(begin, end, runs, [
            T, E, P, C, N, sum(1 << k for k, back in enumerate(self._conv_reverse) if back),
            cu_seqlens, x, x.stride(0), weights.taps, weights.conv_bias, weights.x_proj,
            weights.x_proj.stride(0), convolved, projected, padded,
        ])  # fmt: skip
        steps, states_in, states_out = projected[..., :P].expand(K, -1, -1).split(self._splits, 2)
        tasks, arguments = scan_arguments(
            convolved.expand(K, -1, -1), steps, weights.dt_weight, weights.dt_bias, weights.A,
            states_in, states_out, weights.D, z, cu_seqlens, self._reverse, out=x,
        )  # fmt: skip
        scan = self._table(begin, end, tasks, arguments)
        gates = np.zeros((STEPS * (end - begin) + 1, 2), dtype=np.int64)
        stops = np.zeros(end - begin, dtype=np.int64)
        limit = limit or ThreadLimit(0)
        tables = [
            n for table in (project, convolve, scan) for n in (table.ctypes.data, table.shape[1])
        ]
        _kernel(
            max(runs, tasks), end - begin, gates.ctypes.data, stops.ctypes.data, limit.address,
            limit.followed, *tables,
        )  # fmt: skip
        stops[-1] = 1  # unless one before it was the last
        return out, residual, begin + int(stops.argmax()) + 1

    def _table(
        self, begin: int, end: int, tasks: int, arguments: Sequence[Tensor | int]
    ) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """A step's arguments for each block: those of block ``begin``, but each its own weights."""
        fields = {id(tensor): i for i, tensor in enumerate(self._packed[begin])}
        table = np.tile(np.array([0, tasks, *addresses(arguments)]), (end - begin, 1))
        for column, argument in enumerate(arguments, 2):
            field = fields.get(id(argument))
            if field is not None:
                table[:, column] = self._addresses[begin:end, field]
        return table


def _pack(block: BlockWeights) -> _Packed:
    return _Packed(
        norm=block.norm.contiguous(),
        in_proj=pack_weight(block.in_proj),
        taps=block.conv_weight.transpose(1, 2).contiguous(),
        conv_bias=block.conv_bias.contiguous(),
        x_proj=torch.stack([pack_weight(weight) for weight in block.x_proj]),
        dt_weight=block.dt_weight.contiguous(),
        dt_bias=block.dt_bias.contiguous(),
        A=block.A.contiguous(),
        D=block.D.contiguous(),
        out_proj=pack_weight(block.out_proj),
    )
