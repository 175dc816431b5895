"""What the assembler makes of every Triton kernel that serving can launch; needs no GPU.

``python -m tests.kernels.resources`` writes the table ``kernels/registers.md`` anew.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from tests.kernels.cases import TURNS, make_turn
from tests.paths import ROOT
from tests.processes import CONTEXT
from vimserve.kernels import triton_config
from vimserve.kernels.add_norm.triton import add_norm
from vimserve.kernels.conv1d.triton import conv1d
from vimserve.kernels.selective_scan.triton import selective_scan
from vimserve.kernels.upsample_argmax.triton import upsample_argmax

TABLE = ROOT / "kernels" / "registers.md"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
ARCHITECTURES = (80, 90, 100)
WIDTHS = (192, 384, 576, 768)  # Vim-Ti, Vim-S, VideoMamba-M, Vim-B
CLASSES = 150  # ADE20K
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHORT = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
    torch.uint8: "u8",
}


@dataclass(frozen=True)
class Case:
    """A kernel as a model of width D in a dtype launches it."""

    kernel: str
    dtype: torch.dtype
    D: int
    S: int = 16
    probability: bool = False
    turns: str = "nothing"

    def __str__(self) -> str:
        ending = " probability" if self.probability else ""
        if self.turns != "nothing":
            ending = f" turning {self.turns}"
        return f"{self.kernel} {SHORT[self.dtype]} D={self.D}{ending}"


CASES = [
    Case(kernel, dtype, D)
    for kernel in ("_walk_outputs", "_walk_states", "_convolve", "_add_norm")
    for dtype in DTYPES
    for D in WIDTHS
]
CASES += [
    Case("_add_norm", dtype, D, turns=turns)
    for turns in TURNS[1:]
    for dtype in DTYPES
    for D in WIDTHS
]
CASES += [Case("_carry", torch.float32, D) for D in WIDTHS]
# Whatever the model's width: what counts is the number of classes.
CASES += [
    Case("_upsample_argmax", dtype, WIDTHS[0], probability=probability)
    for dtype in DTYPES
    for probability in (False, True)
]


@dataclass(frozen=True)
class Usage:
    """The assembler's report."""

    registers: int
    stack_bytes: int  # where spilled registers go
    shared_bytes: int


def compile_case(case: Case, architecture: int) -> bytes:
    """The cubin of a case, from the very launch that the kernel's public function makes."""
    kernel, arguments = next(
        (kernel, arguments)
        for kernel, arguments in _launches(case)
        if kernel.__name__ == case.kernel
    )
    parameters = {p.name: p for p in kernel.params}
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value = arguments[name]
        if parameters[name].is_constexpr or value is None:
            signature[name], constants[i,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = f"*{SHORT[value.dtype]}"
            if value.data_ptr() % 16 == 0:
                attributes[i,] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            assert parameters[name].do_not_specialize, f"{name} makes a kernel for every value"
            signature[name] = parameters[name].annotation_type or "i32"
    options = {name: value for name, value in arguments.items() if name not in parameters}
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, GPUTarget("cuda", architecture, 32), options).asm["cubin"]


def usage(cubin: bytes) -> Usage:
    report = _tool("cuobjdump", "-res-usage", cubin=cubin)
    numbers = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED):(\d+)", report)}
    return Usage(numbers["REG"], numbers["STACK"], numbers["SHARED"])


def hot_loop(cubin: bytes) -> list[str]:
    """The innermost loop with the most exponentials, one machine instruction a line."""
    starts: dict[str, int] = {}
    instructions: list[str] = []
    loops: list[list[str]] = []
    for line in _tool("nvdisasm", "-c", cubin=cubin).splitlines():
        if label := re.match(r"(\.L_\w+):", line.strip()):
            starts[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            instructions.append(instruction[1])
            target = re.search(r"BRA.*`\((\.L_\w+)\)", line)
            if target and target[1] in starts:
                loops.append(instructions[starts[target[1]] :])
    innermost = [a for a in loops if not any(a != b and _ends(a, b) for b in loops)]
    return max(innermost, key=lambda loop: sum("MUFU.EX2" in line for line in loop))


def usages() -> dict[tuple[str, int], Usage]:
    """Every case on every architecture, on all cores."""
    jobs = [(case, architecture) for case in CASES for architecture in ARCHITECTURES]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=CONTEXT) as pool:
        results = pool.map(_job, jobs, chunksize=8)
        return {(str(case), arch): use for (case, arch), use in zip(jobs, results, strict=True)}


def table(reports: dict[tuple[str, int], Usage]) -> str:
    """The committed page."""
    rows = [
        f"| {name} | " + " | ".join(_cell(reports[name, a]) for a in ARCHITECTURES) + " |"
        for name in dict.fromkeys(name for name, _ in reports)
    ]
    heads = [f"sm_{architecture}" for architecture in ARCHITECTURES]
    return "\n".join(
        [
            "# Registers per thread",
            "",
            f"Triton {triton.__version__}; every kernel as each published width launches it with "
            "float32 projections. Bytes of spilled registers are named where there are any; a test "
            "compiles them all again and asserts that there are none. Written by "
            "`python -m tests.kernels.resources`.",
            "",
            "| kernel | " + " | ".join(heads) + " |",
            "| --- | " + " | ".join("---:" for _ in heads) + " |",
            *rows,
            "",
        ]
    )


def _cell(use: Usage) -> str:
    spilled = f", {use.stack_bytes} bytes spilled" if use.stack_bytes else ""
    return f"{use.registers}{spilled}"


def _ends(outer: list[str], inner: list[str]) -> bool:
    """Whether a loop encloses another (a loop's lines are a run of the program's)."""
    return len(outer) > len(inner) and any(
        outer[i : i + len(inner)] == inner for i in range(len(outer) - len(inner) + 1)
    )


def _job(job: tuple[Case, int]) -> Usage:
    return usage(compile_case(*job))


def _launches(case: Case) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The launches that the public functions make for one long sequence."""
    made: list[tuple[Any, dict[str, Any]]] = []

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        made.append((kernel, dict(zip(kernel.arg_names, args, strict=False)) | kwargs))

    D, E, S, R, T, K = case.D, 2 * case.D, case.S, case.D // 16, 2048, 2
    cu_seqlens = torch.tensor([0, T], dtype=torch.int32)
    xz = torch.empty(T, 2 * E, dtype=case.dtype)
    weights: dict[str, Any] = {
        "dt_weight": torch.empty(K, E, R, dtype=case.dtype),
        "dt_bias": torch.empty(K, E, dtype=case.dtype),
        "A": torch.empty(K, E, S),
        "D": torch.empty(K, E),
    }
    dt, B, C = torch.empty(K, T, R + 2 * S).split([R, S, S], 2)
    with (
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(triton_config, "_multiprocessors", return_value=132),
    ):
        if case.kernel == "_add_norm":
            hidden = torch.empty(T, D, dtype=case.dtype)
            weight, turn = torch.empty(D, dtype=case.dtype), make_turn(T, D, case.turns)
            add_norm(hidden, torch.empty(T, D), weight, turn=turn)
        elif case.kernel == "_upsample_argmax":
            scores = torch.empty(312, 312, CLASSES, dtype=case.dtype).permute(2, 0, 1)
            upsample_argmax(scores, (1248, 1248), probability=case.probability)
        elif case.kernel == "_convolve":
            taps, bias = torch.empty(K, E, 4, dtype=case.dtype), weights["dt_bias"]
            conv1d(xz[:, :E], taps, bias, cu_seqlens, (False, True))
        else:
            selective_scan(
                torch.empty(K, T, E, dtype=case.dtype), dt, B=B, C=C, z=xz[:, E:], **weights,
                cu_seqlens=cu_seqlens, reverse=(False, True), side_by_side=True,
            )  # fmt: skip
    yield from made


def _tool(name: str, *flags: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / name), *flags, file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    TABLE.write_text(table(usages()))
