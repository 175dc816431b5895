"""Selective scan for GPUs.

A thread owns one channel of one direction with all its states, so threads exchange nothing. A
program walks a run of tokens for a block of channels. A run is a whole sequence. If there are too
few sequences to fill the GPU, it is a chunk of the packed tokens, which may begin and end inside
sequences.

Whole sequences need one kernel, ``walk_outputs``. Chunks need three: ``walk_states`` walks each
chunk from a zero state to the state at its end, ``carry`` carries these states across the chunks,
and ``walk_outputs`` walks each chunk again, from its true initial state, and writes the outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vimserve.kernels.selective_scan.triton_walks import (
    AHEAD,
    carry,
    walk_outputs,
    walk_states,
)
from vimserve.kernels.triton_config import (
    LANES,
    OPTIONS,
    channel_block,
    chunk_tokens,
    scan_registers,
)


def selective_scan(
    x: Tensor,
    dt: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    cu_seqlens: Tensor,
    reverse: Sequence[bool],
    *,
    side_by_side: bool = False,
    max_seqlen: int | None = None,
) -> Tensor:
    """See ``kernels.selective_scan``. Weights that are not contiguous are copied at every call."""
    K, T, E = x.shape
    N, S, R = len(cu_seqlens) - 1, A.shape[-1], dt_weight.shape[-1]
    out = torch.empty(T, K * E, dtype=x.dtype, device=x.device)
    dt_weight, dt_bias, A, D = (w.contiguous() for w in (dt_weight, dt_bias, A, D))
    chunk = chunk_tokens(T, N, K, E, R, max_seqlen, x.device)
    runs = -(-T // chunk) if chunk else N
    block = channel_block(E, R)
    blocks = -(-E // block)
    grid = (blocks * runs, K)  # only a grid's first dimension may exceed 65,535
    bounds = {"cu_seqlens": cu_seqlens, "chunk": chunk, "T": T, "N": N, "rounds": N.bit_length()}
    inputs = {
        "x": x, "x_k": x.stride(0), "x_row": x.stride(1),
        "dt": dt, "dt_k": dt.stride(0), "dt_row": dt.stride(1),
        "B": B, "B_k": B.stride(0), "B_row": B.stride(1),
        "dt_weight": dt_weight, "dt_bias": dt_bias, "A": A,
    }  # fmt: skip
    sizes = {
        "E": E, "S": S, "BLOCK": block, "num_warps": block // LANES,
        "REVERSE": sum(1 << k for k, backward in enumerate(reverse) if backward), **OPTIONS,
    }  # fmt: skip
    walk = {"R": R, "WIDE": _wide(R, dt, B, C), **inputs, **bounds, **sizes, **scan_registers(R)}
    states = A  # a placeholder: without chunks no state is read
    if chunk:
        states = torch.empty(K, runs, S, E, device=x.device)
        totals = torch.empty(K, runs, E, device=x.device)
        walk_states[grid](states=states, totals=totals, **walk)
        carry[blocks, S, K](states, totals, A, runs, AHEAD=AHEAD, **sizes)
    walk_outputs[grid](
        C=C, C_k=C.stride(0), C_row=C.stride(1), D=D, z=z, z_row=z.stride(0),
        states=states, out=out, K=K, **walk,
    )  # fmt: skip
    return out if side_by_side else out.view(T, K, E).sum(1)


def _wide(R: int, *rows: Tensor) -> bool:
    """Whether every row can be read four float32 numbers at a time."""
    return R % 4 == 0 and all(
        row.dtype == torch.float32
        and row.data_ptr() % 16 == 0
        and row.stride(0) % 4 == 0
        and row.stride(1) % 4 == 0
        for row in rows
    )
