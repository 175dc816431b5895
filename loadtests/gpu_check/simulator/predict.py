"""Predicts how long launches, operations and whole passes take on a card.

A step's time is the largest of what its resources need, plus a latency: the scan's loops need the
simulated cycles of their tokens, other kernels those of their busiest unit, matrix products and
attention their floating-point operations, and everything its bytes. Every prediction is a range:
what is not known is set once in favour of speed, and once against it.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vimserve.kernels.triton_config import SCHEDULERS
from vimserve.loadtests.gpu_check.simulator.cards import Card
from vimserve.loadtests.gpu_check.simulator.launches import Launch
from vimserve.loadtests.gpu_check.simulator.sass import Program, Usage, disassemble, usage
from vimserve.loadtests.gpu_check.simulator.scoreboard import Units, cycles_per_round, occupancy
from vimserve.loadtests.gpu_check.simulator.trace import Operation, Step

LOOPS = ("walk_states", "walk_outputs")
UPDATED = {"_add_norm": "residual", "carry": "states"}  # read and written
PRODUCTS = ("linear", "mm", "addmm", "bmm", "matmul")
ATTENTION = "scaled_dot_product_attention"
TILE = (128, 64)  # of a product, one multiprocessor's work at a time
L2_BYTES = 24  # a cycle, for each multiprocessor


@dataclass(frozen=True)
class Assumptions:
    """What is not known.

    Attributes:
        bandwidth: the share of the memory's rate that a kernel gets.
        cached: whether what fits into the second-level cache is read from there, and whether what
            is prefetched into the first-level cache is there in time.
        loaded: by how much a busy memory takes longer to answer than an idle one.
        crowded: by how much longer several warps of a scheduler take than is simulated. Of the
            scan's loop with its loads ahead, an H100 took up to 1.5 of the simulated time.
        broadcasts: whether a load of one address by all lanes occupies the cache's port only once,
            and not once for each register.
        product: the share of the matrix units' rate that a product gets.
        attention: the same for fused attention, by generation (75, 80, 89, 90).
        start_s: from the end of one kernel to the work of the next one, in a graph.
        operation_s: that the host takes to launch one, without a graph.
    """

    bandwidth: float
    cached: bool
    loaded: float
    crowded: float
    broadcasts: bool
    product: float
    attention: dict[int, float]
    start_s: float
    operation_s: float


# Fused attention: FlashAttention-2 reaches 0.6 to 0.7 of an A100's rate and about 0.35 of an
# H100's (Dao, arXiv 2307.08691; Shah et al., arXiv 2407.08608).
FAST = Assumptions(
    0.92, True, 1.0, 1.0, True, 0.75, {75: 0.45, 80: 0.62, 86: 0.7, 89: 0.7, 90: 0.4}, 1e-6, 8e-6
)
SLOW = Assumptions(
    0.75, False, 1.5, 1.5, False, 0.45, {75: 0.2, 80: 0.4, 86: 0.4, 89: 0.4, 90: 0.25}, 3e-6, 30e-6
)


@dataclass(frozen=True)
class Range:
    """Seconds, if what is not known is in favour of speed and if it is against it."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Self) -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def __contains__(self, seconds: float) -> bool:
        return self.low <= seconds <= self.high

    def __format__(self, spec: str) -> str:
        """In milliseconds."""
        return f"{1e3 * self.low:{spec}}–{1e3 * self.high:{spec}}"


def on_device(steps: Iterable[Step], card: Card) -> Range:
    """Seconds of the steps one after the other, as a CUDA graph runs them."""
    ranges = [Range(*(_seconds(step, card, a) for a in (FAST, SLOW))) for step in steps]
    return sum(ranges, Range())


def on_host(steps: Iterable[Step]) -> Range:
    """Seconds that the host takes to launch the steps without a graph."""
    count = len(list(steps))
    return Range(count * FAST.operation_s, count * SLOW.operation_s)


@dataclass(frozen=True)
class Compiled:
    """What the assembler made of a launch."""

    program: Program
    usage: Usage


def compiled(launch: Launch, architecture: int) -> Compiled:
    """The machine code of a launch, kept for equal ones."""
    key = (launch.name, architecture, launch.fixed)
    if key not in _COMPILED:
        cubin = launch.cubin(architecture)
        _COMPILED[key] = Compiled(disassemble(cubin), usage(cubin))
    return _COMPILED[key]


_COMPILED: dict[object, Compiled] = {}


def _seconds(step: Step, card: Card, assumed: Assumptions) -> float:
    if isinstance(step, Operation):
        return _operation_s(step, card, assumed)
    moved = _bytes_s(_bytes(step), card, assumed)
    code = compiled(step, card.architecture)
    if step.name in LOOPS:
        work = _loop_s(step, code, card, assumed)
    else:
        work = _straight_s(step, code, card, assumed)
    return max(moved, work) + assumed.start_s + 2 * card.memory_latency / card.clock_hz


def _loop_s(launch: Launch, code: Compiled, card: Card, assumed: Assumptions) -> float:
    """The scan's walk: full waves of programs, then the rest on fewer warps a scheduler."""
    arguments = launch.arguments
    tokens = arguments["chunk"] or -(-arguments["T"] // arguments["N"])
    loop = code.program.hot_loop()
    in_l2 = assumed.cached and _bytes(launch) <= card.l2_bytes
    latency = card.l2_latency if in_l2 else round(assumed.loaded * card.memory_latency)
    if any(instruction.prefetches for instruction in loop):
        latency = card.l1_latency if assumed.cached else card.l2_latency
    units = Units(card.units.float_cycles, 2**20) if assumed.broadcasts else card.units
    resident = card.resident_programs(launch.warps, code.usage.registers, code.usage.shared_bytes)
    waves, rest = divmod(launch.programs, resident * card.multiprocessors)
    cycles = 0.0
    for count, programs in ((waves, resident), (1, -(-rest // card.multiprocessors))):
        if count and programs:
            warps = -(-programs * launch.warps // SCHEDULERS)
            crowded = assumed.crowded if warps > 1 else 1.0
            cycles += count * tokens * crowded * _cycles(loop, warps, latency, units)
    return cycles / card.clock_hz


_cycles = functools.cache(cycles_per_round)


def _straight_s(launch: Launch, code: Compiled, card: Card, assumed: Assumptions) -> float:
    """Any other kernel: its busiest unit, every instruction counted once."""
    busiest = max(occupancy(code.program.instructions, card.units).values())
    warps = launch.programs * launch.warps
    seconds = busiest * warps / (SCHEDULERS * card.multiprocessors) / card.clock_hz
    if launch.name == "carry":  # a chain of loads, AHEAD chunks at a time
        rounds = -(-launch.arguments["chunks"] // launch.arguments["AHEAD"])
        seconds += rounds * assumed.loaded * card.memory_latency / card.clock_hz
    return seconds


def _operation_s(step: Operation, card: Card, assumed: Assumptions) -> float:
    work = 0.0
    if step.name == ATTENTION:
        work = step.flops / (assumed.attention[card.architecture] * card.tensor_flops)
        work = max(work, step.special / card.special_per_s)
    elif step.name in PRODUCTS:
        *batch, rows, columns = step.shape
        tiles = -(-rows // TILE[0]) * -(-columns // TILE[1]) * torch.Size(batch).numel()
        busy = min(1.0, tiles / card.multiprocessors)
        work = step.flops / (assumed.product * busy * card.tensor_flops)
    latency = 2 * card.memory_latency / card.clock_hz
    return max(work, _bytes_s(step.bytes, card, assumed)) + assumed.start_s + latency


def _bytes_s(count: int, card: Card, assumed: Assumptions) -> float:
    rate = assumed.bandwidth * card.bytes_per_s
    if assumed.cached and count <= card.l2_bytes:
        rate = max(rate, L2_BYTES * card.multiprocessors * card.clock_hz)
    return count / rate


def _bytes(launch: Launch) -> int:
    """Of every operand once, but of those that are read and written twice."""
    total = 0
    for name, value in launch.arguments.items():
        if isinstance(value, Tensor):
            times = 2 if UPDATED.get(launch.name) == name else 1
            if name == "z":  # each direction reads it, at another time
                times = launch.arguments["x"].shape[0]
            total += times * value.numel() * value.itemsize
    return total
