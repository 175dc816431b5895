"""An in-order scoreboard: how many cycles the warps of one scheduler need for a loop.

A scheduler issues one instruction a cycle. A warp issues in order: after the stall count of its
last instruction, when the barriers that the next one waits for are free, and when the unit that the
next one needs can take it. Results of fixed latency need no model of their own, because the
assembler wrote their latencies into the stall counts. What is modelled is what it cannot know: the
other warps, the special-function unit, and memory.

Not modelled: conflicts of register banks, fetching instructions, and queues and contention in the
caches and in memory, whose latencies are constants here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vimserve.kernels.triton_config import LANES, SCHEDULERS
from vimserve.loadtests.gpu_check.simulator.sass import Instruction

SPECIAL_CYCLES = 8  # of a warp in a special-function unit, which has 4 lanes a scheduler
# Abdelkhalik et al., "Demystifying the Nvidia Ampere Architecture through Microbenchmarking and
# Instruction-level Analysis" (arXiv 2208.11174): ex2.approx.ftz.f32.
SPECIAL_LATENCY = 18
OPERANDS_LATENCY = 12  # until a load or store has read its registers
QUEUED = 4  # instructions that wait for a busy special-function or load unit without blocking

FLOAT = ("FADD", "FFMA", "FMUL", "HADD2", "HFMA2", "HMUL2")
MULTIPLY = ("IMAD",)
SPECIAL = ("MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO")
MEMORY = ("CCTL", "LDG", "STG", "LDL", "STL", "LDS", "STS", "LD", "ST", "SHFL", "RED", "ATOMG")
CONTROL = ("BRA", "EXIT", "NOP", "BSSY", "BSYNC", "WARPSYNC", "BAR", "DEPBAR")


@dataclass(frozen=True)
class Units:
    """Rates of a multiprocessor.

    Attributes:
        float_cycles: that a warp occupies a scheduler's floating-point units; 1 where a
            multiprocessor has 128 lanes, 2 where it has 64.
        load_bytes: that its first-level cache delivers to registers in a cycle.
    """

    float_cycles: int
    load_bytes: int


@dataclass(frozen=True)
class _Step:
    """An instruction with what the scheduler needs of it."""

    stall: int
    result: int | None
    operands: int | None
    waits: tuple[int, ...]
    unit: str
    cycles: int  # that it occupies its unit
    queued: int  # cycles of the unit's work that may lie ahead of it
    latency: int


class _Warp:
    def __init__(self) -> None:
        self.ready = 0  # when its next instruction may issue, for all that the warp knows
        self.at = 0  # its next instruction
        self.barriers = [0] * 6


def cycles_per_round(
    loop: Sequence[Instruction],
    warps: int,
    memory_latency: int,
    units: Units,
    rounds: int = 8,
    warm_up: int = 4,
) -> float:
    """Cycles in which each of a scheduler's warps goes once through the loop.

    Args:
        loop: its instructions, executed in order.
        warps: of one scheduler; the multiprocessor's other schedulers have as many.
        memory_latency: cycles from a load to its result.
        units: rates of the multiprocessor.
        rounds: to take the mean of.
        warm_up: rounds before these.
    """
    scheduler = _Scheduler(loop, warps, memory_latency, units)
    begin, end = (scheduler.run(n * len(loop) * warps) for n in (warm_up, rounds))
    return (end - begin) / rounds


def occupancy(loop: Sequence[Instruction], units: Units) -> dict[str, float]:
    """Cycles that one warp's loop keeps each resource of a scheduler busy: the loop's floors."""
    busy: dict[str, float] = {"issue": len(loop)}
    for instruction in loop:
        unit = _unit(instruction)
        busy[unit] = busy.get(unit, 0) + _cycles(instruction, unit, units)
    return busy


class _Scheduler:
    def __init__(
        self, loop: Sequence[Instruction], warps: int, memory_latency: int, units: Units
    ) -> None:
        self._now = 0
        self._loop = [_step(instruction, memory_latency, units) for instruction in loop]
        self._warps = [_Warp() for _ in range(warps)]
        self._free = {step.unit: 0 for step in self._loop}

    def run(self, instructions: int) -> int:
        """Issue so many instructions, and return the cycle."""
        for _ in range(instructions):
            # Of the warps that can issue first, the one that has waited longest.
            first, turn = None, 0
            for i, warp in enumerate(self._warps):
                step = self._loop[warp.at]
                at = max(warp.ready, self._free[step.unit] - step.queued, self._now)
                if first is None or at < first:
                    first, turn = at, i
                if at == self._now:
                    break
            assert first is not None  # noqa: S101
            self._now = first
            self._warps.append(self._warps.pop(turn))
            self._issue(self._warps[-1])
            self._now += 1
        return self._now

    def _issue(self, warp: _Warp) -> None:
        step = self._loop[warp.at]
        start = max(self._free[step.unit], self._now)
        self._free[step.unit] = start + step.cycles
        barriers = warp.barriers
        if step.result is not None:
            barriers[step.result] = max(barriers[step.result], start + step.latency)
        if step.operands is not None:
            barriers[step.operands] = max(barriers[step.operands], start + OPERANDS_LATENCY)
        warp.at = (warp.at + 1) % len(self._loop)
        warp.ready = self._now + step.stall
        for barrier in self._loop[warp.at].waits:
            warp.ready = max(warp.ready, barriers[barrier])


def _step(instruction: Instruction, memory_latency: int, units: Units) -> _Step:
    unit = _unit(instruction)
    cycles = _cycles(instruction, unit, units)
    return _Step(
        max(1, instruction.stall),
        instruction.result,
        instruction.operands,
        instruction.waits,
        unit,
        cycles,
        QUEUED * cycles if unit in ("special", "memory") else 0,
        memory_latency if unit == "memory" else SPECIAL_LATENCY,
    )


def _unit(instruction: Instruction) -> str:
    operation = instruction.operation
    for names, unit in (
        (FLOAT, "float"), (MULTIPLY, "multiply"), (SPECIAL, "special"), (MEMORY, "memory"),
        (CONTROL, "control"),
    ):  # fmt: skip
        if operation in names:
            return unit
    return "integer"


def _cycles(instruction: Instruction, unit: str, units: Units) -> int:
    """How long a warp's instruction keeps its unit from the scheduler's next."""
    if unit == "float":
        return units.float_cycles
    if unit == "special":
        return SPECIAL_CYCLES
    if unit == "memory":
        # The registers of all lanes are written over one port, also if they all read one address.
        return -(-SCHEDULERS * LANES * _bytes(instruction) // units.load_bytes)
    return 1 if unit == "control" else 2


def _bytes(instruction: Instruction) -> int:
    """Bytes that a lane reads or writes, at least a register."""
    modifiers = instruction.name.split(".")
    return 16 if "128" in modifiers else 8 if "64" in modifiers else 4
