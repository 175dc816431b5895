"""The scan's kernels for GPUs; ``triton.py`` launches them and says how they fit together."""

import triton
import triton.language as tl

from vimserve.kernels.triton_math import (
    LOG2_E,
    exp2,
    find_sequence,
    load_row,
    prefetch,
    silu,
    softplus,
)

AHEAD = 16  # chunks whose states ``carry`` loads together
SECTOR = tl.constexpr(32)  # bytes that memory delivers at a time
PREFETCHED = tl.constexpr(6)  # tokens ahead: about as long as memory takes to answer


@triton.jit
def _load_columns(p, S: tl.constexpr, stride, mask):
    """A tuple of S blocks in float32; block s is at ``p + s * stride``."""
    values = ()
    for s in tl.static_range(S):
        values = values + (tl.load(p + s * stride, mask=mask, other=0.0).to(tl.float32),)
    return values


@triton.jit
def _zeros(S: tl.constexpr, BLOCK: tl.constexpr):
    values = ()
    for _ in tl.static_range(S):
        values = values + (tl.zeros([BLOCK], tl.float32),)
    return values


@triton.jit
def _load_rates(A, S: tl.constexpr, mask):
    """A log2(e), so that exp(step A) is one multiplication and one exp2 instruction."""
    rates = ()
    for s in tl.static_range(S):
        rates = rates + (tl.load(A + s, mask=mask, other=0.0) * LOG2_E,)
    return rates


@triton.jit
def _row(t, T):
    """The row of token t or, beyond the first or last token, of that one."""
    return tl.maximum(tl.minimum(t, T - 1), 0).to(tl.int64)


@triton.jit
def _sectors(p, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """Addresses of all sectors of a row of COUNT numbers, eight for each eight threads."""
    sector = (tl.arange(0, BLOCK) % 8) * (SECTOR // _itemsize(p))
    return (p + tl.minimum(sector, COUNT - 1)).to(tl.int64)


@triton.jit
def _itemsize(p):
    return p.dtype.element_ty.primitive_bitwidth // 8


@triton.jit
def _dot(start, a, b):
    for i in tl.static_range(len(a)):
        start += a[i] * b[i]
    return start


@triton.jit
def _advance(h, rates, step, dtx, b_B):
    """The states after the next token: h = exp(step A) h + step B x."""
    states = ()
    for s in tl.static_range(len(h)):
        states = states + (exp2(step * rates[s]) * h[s] + dtx * b_B[s],)
    return states


@triton.jit(do_not_specialize=("chunk", "T", "N", "rounds", "x_k", "dt_k", "B_k"))
def walk_states(
    x, x_k: tl.int64, dt, dt_k: tl.int64, dt_weight, dt_bias, A, B, B_k: tl.int64, cu_seqlens,
    states, totals, chunk, T, N, rounds,
    x_row: tl.constexpr, dt_row: tl.constexpr, B_row: tl.constexpr,
    E: tl.constexpr, S: tl.constexpr, R: tl.constexpr, REVERSE: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the state at the end of each chunk, if it began at zero, and the sum of its step sizes.

    The states are ``[K, chunks, S, E]``, the totals ``[K, chunks, E]`` in float32. A total of -1
    means that a sequence begins inside the chunk, so no earlier state passes through it. In each
    chunk only the tokens of the sequence that the next chunk continues are walked.
    Grid: chunks of channel blocks, K.
    """
    blocks: tl.constexpr = (E + BLOCK - 1) // BLOCK
    i_e, i_run, i_k = tl.program_id(0) % blocks, tl.program_id(0) // blocks, tl.program_id(1)
    backward = ((REVERSE >> i_k) & 1) != 0
    toward = tl.where(backward, -1, 1)
    begin, end = i_run * chunk, tl.minimum(i_run * chunk + chunk, T)
    e = i_e * BLOCK + tl.arange(0, BLOCK)
    mask = e < E
    channel = i_k * E + e
    rates = _load_rates(A + channel * S, S, mask)
    weights = _load_columns(dt_weight + channel * R, R, 1, mask)
    bias = tl.load(dt_bias + channel, mask=mask, other=0.0).to(tl.float32)
    x += i_k * x_k + e
    dt += i_k * dt_k
    B += i_k * B_k

    n = find_sequence(cu_seqlens, N, rounds, tl.where(backward, begin, end - 1))
    low, high = tl.load(cu_seqlens + n), tl.load(cu_seqlens + n + 1)
    t = tl.where(backward, tl.minimum(end, high) - 1, tl.maximum(begin, low))
    tokens = tl.where(backward, t + 1 - begin, end - t)
    ahead = tl.where(backward, begin - low, high - end)
    behind = tl.where(backward, high - end, begin - low)
    h = _zeros(S, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    # Operands travel through the loop as in walk_outputs.
    row, next_row = _row(t, T), _row(t + toward, T)
    step = softplus(_dot(bias, weights, load_row(dt + row * dt_row, R, WIDE)))
    b_x = tl.load(x + row * x_row, mask=mask, other=0.0)
    b_B = load_row(B + row * B_row, S, WIDE)
    next_dt = load_row(dt + next_row * dt_row, R, WIDE)
    next_x = tl.load(x + next_row * x_row, mask=mask, other=0.0)
    of_dt = tl.arange(0, BLOCK) % 16 < 8
    sectors = tl.where(of_dt, _sectors(dt, R, BLOCK), _sectors(B, S, BLOCK))
    pitch = tl.where(of_dt, dt_row * _itemsize(dt), B_row * _itemsize(B))
    for _ in range(tl.where(ahead > 0, tokens, 0)):
        far = _row(t + PREFETCHED * toward, T)
        t += toward
        next_row, later_row = _row(t, T), _row(t + toward, T)
        prefetch(sectors + far * pitch)
        prefetch(x + far * x_row)
        next_step = softplus(_dot(bias, weights, next_dt))
        next_dt = load_row(dt + later_row * dt_row, R, WIDE)
        u = b_x.to(tl.float32)
        b_x, next_x = next_x, tl.load(x + later_row * x_row, mask=mask, other=0.0)
        h = _advance(h, rates, step, step * u, b_B)
        b_B = load_row(B + next_row * B_row, S, WIDE)
        total += step
        step = next_step
    run = (i_k * (tl.num_programs(0) // blocks) + i_run).to(tl.int64)
    for s in tl.static_range(S):
        tl.store(states + (run * S + s) * E + e, h[s], mask=mask)
    tl.store(totals + run * E + e, tl.where(behind > 0, total, -1.0), mask=mask)


@triton.jit(do_not_specialize=("chunks",))
def carry(
    states, totals, A, chunks,
    E: tl.constexpr, S: tl.constexpr, REVERSE: tl.constexpr,
    BLOCK: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Replace the state at the end of each chunk by the state that the chunk begins with.

    AHEAD chunks are loaded at a time, so that the latencies of their loads overlap.
    Grid: channel blocks, S, K.
    """
    i_e, i_s, i_k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    backward = ((REVERSE >> i_k) & 1) != 0
    e = i_e * BLOCK + tl.arange(0, BLOCK)
    mask = e < E
    rate = tl.load(A + (i_k * E + e) * S + i_s, mask=mask, other=0.0) * LOG2_E
    states += (i_k * chunks).to(tl.int64) * (S * E) + i_s * E + e
    totals += (i_k * chunks).to(tl.int64) * E + e
    h = tl.zeros([BLOCK], tl.float32)
    for first in range(0, chunks, AHEAD):
        ends = ()
        decays = ()
        for i in tl.static_range(AHEAD):
            run = tl.where(backward, chunks - 1 - first - i, first + i).to(tl.int64)
            inside = e < tl.where(first + i < chunks, E, 0)
            ends = ends + (tl.load(states + run * (S * E), mask=inside, other=0.0),)
            total = tl.load(totals + run * E, mask=inside, other=-1.0)
            decays = decays + (tl.where(total < 0.0, 0.0, exp2(rate * total)),)
        for i in tl.static_range(AHEAD):
            run = tl.where(backward, chunks - 1 - first - i, first + i).to(tl.int64)
            tl.store(states + run * (S * E), h, mask=e < tl.where(first + i < chunks, E, 0))
            h = decays[i] * h + ends[i]


@triton.jit(do_not_specialize=("chunk", "T", "N", "rounds", "x_k", "dt_k", "B_k", "C_k"))
def walk_outputs(
    x, x_k: tl.int64, dt, dt_k: tl.int64, dt_weight, dt_bias, A, B, B_k: tl.int64,
    C, C_k: tl.int64, D, z, cu_seqlens, states, out, chunk, T, N, rounds,
    x_row: tl.constexpr, dt_row: tl.constexpr, B_row: tl.constexpr, C_row: tl.constexpr,
    z_row: tl.constexpr,
    E: tl.constexpr, S: tl.constexpr, R: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gated outputs ``[T, K E]`` of each run.

    A run is a chunk that begins with its state in ``[K, chunks, S, E]``, or a whole sequence if
    ``chunk`` is 0. Grid: runs of channel blocks, K.
    """
    blocks: tl.constexpr = (E + BLOCK - 1) // BLOCK
    i_e, i_run, i_k = tl.program_id(0) % blocks, tl.program_id(0) // blocks, tl.program_id(1)
    backward = ((REVERSE >> i_k) & 1) != 0
    toward = tl.where(backward, -1, 1)
    e = i_e * BLOCK + tl.arange(0, BLOCK)
    mask = e < E
    channel = i_k * E + e
    rates = _load_rates(A + channel * S, S, mask)
    weights = _load_columns(dt_weight + channel * R, R, 1, mask)
    bias = tl.load(dt_bias + channel, mask=mask, other=0.0).to(tl.float32)
    skip = tl.load(D + channel, mask=mask, other=0.0)
    x += i_k * x_k + e
    dt += i_k * dt_k
    B += i_k * B_k
    C += i_k * C_k
    z += e
    out += channel
    states += (i_k * (tl.num_programs(0) // blocks) + i_run).to(tl.int64) * (S * E) + e

    if chunk == 0:
        n = i_run
        begin, end = tl.load(cu_seqlens + n), tl.load(cu_seqlens + n + 1)
        t = tl.where(backward, end - 1, begin)
    else:
        begin, end = i_run * chunk, tl.minimum(i_run * chunk + chunk, T)
        t = tl.where(backward, end - 1, begin)
        n = find_sequence(cu_seqlens, N, rounds, t)
    # An iteration computes this token's states and output, and the next one's step size, a long
    # chain of arithmetic that the states' exponentials hide. It loads the next token's B, C and z,
    # and the low-rank step size and input of the token after that, each into the registers of what
    # it has just used: loaded any earlier, they would need registers of their own and leave the GPU
    # fewer warps. The prefetches keep these loads short.
    row, next_row = _row(t, T), _row(t + toward, T)
    step = softplus(_dot(bias, weights, load_row(dt + row * dt_row, R, WIDE)))
    b_x = tl.load(x + row * x_row, mask=mask, other=0.0)
    b_z = tl.load(z + row * z_row, mask=mask, other=0.0)
    b_B, b_C = load_row(B + row * B_row, S, WIDE), load_row(C + row * C_row, S, WIDE)
    next_dt = load_row(dt + next_row * dt_row, R, WIDE)
    next_x = tl.load(x + next_row * x_row, mask=mask, other=0.0)
    part = tl.arange(0, BLOCK) // 8 % 4
    sectors = tl.where(part == 1, _sectors(B, S, BLOCK), _sectors(C, S, BLOCK))
    sectors = tl.where(part == 0, _sectors(dt, R, BLOCK), sectors)
    pitch = tl.where(part == 1, B_row * _itemsize(B), C_row * _itemsize(C))
    pitch = tl.where(part == 0, dt_row * _itemsize(dt), pitch)
    left = end - begin
    while left > 0:
        low, high = tl.load(cu_seqlens + n), tl.load(cu_seqlens + n + 1)
        ahead = tl.where(backward, t + 1 - low, high - t)
        behind = tl.where(backward, high - 1 - t, t - low)
        h = _load_columns(states, S, E, e < tl.where(behind > 0, E, 0))
        for _ in range(tl.minimum(left, ahead)):
            row, far = t.to(tl.int64), _row(t + PREFETCHED * toward, T)
            t += toward
            next_row, later_row = _row(t, T), _row(t + toward, T)
            prefetch(sectors + far * pitch)
            prefetch(x + far * x_row)
            prefetch(z + far * z_row)
            next_step = softplus(_dot(bias, weights, next_dt))
            next_dt = load_row(dt + later_row * dt_row, R, WIDE)
            u = b_x.to(tl.float32)
            b_x, next_x = next_x, tl.load(x + later_row * x_row, mask=mask, other=0.0)
            h = _advance(h, rates, step, step * u, b_B)
            b_B = load_row(B + next_row * B_row, S, WIDE)
            y = _dot(skip * u, h, b_C) * silu(b_z.to(tl.float32))
            b_C = load_row(C + next_row * C_row, S, WIDE)
            b_z = tl.load(z + next_row * z_row, mask=mask, other=0.0)
            tl.store(out + row * (K * E), y, mask=mask)
            step = next_step
        left -= ahead
        n += toward
