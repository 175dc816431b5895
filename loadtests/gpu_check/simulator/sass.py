"""Reads machine code: instructions with their scheduling control fields, and the hot loop.

Since Volta an instruction has 128 bits, of which bits 105 to 125 tell the scheduler what the
assembler knows of its timing (Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via
Microbenchmarking", arXiv 1804.06826, section 2.1): a stall count (4 bits), a yield flag (1), the
barrier that the result releases (3, 7 is none), the one that its operands release (3), the barriers
that it waits for (6), and reuse flags (4), which do not matter here.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import triton

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
NO_BARRIER = 7
CONTROL_SHIFT = 105 - 64  # within the second half of an instruction
LINE = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?P<text>.*?)\s*;\s*/\* (?P<low>0x[0-9a-f]{16}) \*/")
SECOND_HALF = re.compile(r"\s*/\* (?P<high>0x[0-9a-f]{16}) \*/\s*$")
LABEL = re.compile(r"(\.L_\w+):")
BRANCH = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True)
class Instruction:
    """A machine instruction.

    Attributes:
        text: as ``nvdisasm`` prints it, with a predicate if it has one.
        stall: cycles until the same warp may issue again.
        result: the barrier that is released when the result is written, or None.
        operands: the barrier that is released when the operands have been read, or None.
        waits: barriers that must be free before it issues.
    """

    text: str
    stall: int = 1
    result: int | None = None
    operands: int | None = None
    waits: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The operation with its modifiers, as ``LDG.E.128.CONSTANT``."""
        words = self.text.split()
        return words[1] if words[0].startswith("@") else words[0]

    @property
    def operation(self) -> str:
        """The operation without modifiers, as ``LDG``."""
        return self.name.partition(".")[0]

    @property
    def prefetches(self) -> bool:
        """Whether it brings a line into the first-level cache."""
        return self.name.startswith("CCTL") and self.name.endswith("PF1")

    @classmethod
    def decode(cls, text: str, high: int) -> Self:
        """From its text and the second half of its 128 bits."""
        control = high >> CONTROL_SHIFT
        result, operands, waits = control >> 5 & 7, control >> 8 & 7, control >> 11 & 63
        return cls(
            text,
            control & 15,
            None if result == NO_BARRIER else result,
            None if operands == NO_BARRIER else operands,
            tuple(barrier for barrier in range(6) if waits >> barrier & 1),
        )


@dataclass(frozen=True)
class Program:
    """The instructions of a kernel in order.

    Attributes:
        instructions: all of them.
        loops: first and last instruction of every backward branch's run.
    """

    instructions: tuple[Instruction, ...]
    loops: tuple[tuple[int, int], ...]

    def hot_loop(self) -> tuple[Instruction, ...]:
        """The innermost loop with the most exponentials."""
        innermost = [
            loop
            for loop in self.loops
            if not any(loop != a and loop[0] <= a[0] and a[1] <= loop[1] for a in self.loops)
        ]
        bodies = [self.instructions[first : last + 1] for first, last in innermost]
        return max(bodies, key=exponentials)


def exponentials(instructions: tuple[Instruction, ...]) -> int:
    """How many of them are exponentials."""
    return sum(instruction.name.startswith("MUFU.EX2") for instruction in instructions)


def disassemble(cubin: bytes) -> Program:
    """The program of a cubin with one kernel; needs ``nvdisasm``, which Triton ships."""
    return parse(_tool("nvdisasm", "-c", "-hex", cubin=cubin))


def parse(listing: str) -> Program:
    """The program in the output of ``nvdisasm -c -hex``."""
    starts: dict[str, int] = {}
    instructions: list[Instruction] = []
    loops: list[tuple[int, int]] = []
    text = ""
    for line in listing.splitlines():
        if label := LABEL.match(line.strip()):
            starts[label[1]] = len(instructions)
        elif first := LINE.match(line):
            text = first["text"]
        elif text and (second := SECOND_HALF.match(line)):
            branch = BRANCH.search(text)
            # A branch to itself pads the end of every kernel.
            if branch and starts.get(branch[1], len(instructions)) < len(instructions):
                loops.append((starts[branch[1]], len(instructions)))
            instructions.append(Instruction.decode(text, int(second["high"], 16)))
            text = ""
    return Program(tuple(instructions), tuple(loops))


@dataclass(frozen=True)
class Usage:
    """The assembler's report of a kernel, per thread but for shared memory."""

    registers: int
    stack_bytes: int  # where spilled registers go
    shared_bytes: int


def usage(cubin: bytes) -> Usage:
    """What a kernel's program uses; needs ``cuobjdump``, which Triton ships."""
    report = _tool("cuobjdump", "-res-usage", cubin=cubin)
    numbers = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED):(\d+)", report)}
    return Usage(numbers["REG"], numbers["STACK"], numbers["SHARED"])


def _tool(name: str, *flags: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / name), *flags, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
