"""What the assembler makes of every Triton kernel that serving can launch; needs no GPU.

``python -m tests.kernels.resources`` writes the table ``kernels/registers.md`` anew.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import triton

from tests.kernels.cases import TURNS, make_turn
from tests.paths import ROOT
from tests.processes import CONTEXT
from vimserve.kernels.add_norm.triton import add_norm
from vimserve.kernels.conv1d.triton import conv1d
from vimserve.kernels.nms.triton import nms
from vimserve.kernels.paste_masks.triton import paste_masks
from vimserve.kernels.roi_align.triton import roi_align
from vimserve.kernels.selective_scan.triton import selective_scan
from vimserve.kernels.upsample_add.triton import upsample_add
from vimserve.kernels.upsample_argmax.triton import upsample_argmax
from vimserve.loadtests.gpu_check.simulator.launches import DTYPE_NAMES, Launch, recorded
from vimserve.loadtests.gpu_check.simulator.sass import Usage, disassemble, usage
from vimserve.model.families.upernet.head import BLOCK

TABLE = ROOT / "kernels" / "registers.md"
ARCHITECTURES = (80, 90, 100)
WIDTHS = (192, 384, 576, 768)  # Vim-Ti, Vim-S, VideoMamba-M, Vim-B
CLASSES = 150  # ADE20K
PYRAMID = (192, 256)  # channels of the published detectors
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """A kernel as a model of width D in a dtype launches it."""

    kernel: str
    dtype: torch.dtype
    D: int
    S: int = 16
    probability: bool = False
    turns: str = "nothing"
    maps: tuple[int, int] = (0, 0)
    bins: int = 0
    writes: bool = False

    def __str__(self) -> str:
        ending = " probability" if self.probability else ""
        if self.turns != "nothing":
            ending = f" turning {self.turns}"
        if self.kernel == "_upsample_add":
            ending = " {} maps of {} taps".format(*self.maps)
        if self.bins:
            ending = f" {self.bins} bins"
        if self.kernel == "_paste_masks":
            ending = " writing" if self.writes else " counting"
        return f"{self.kernel} {DTYPE_NAMES[self.dtype]} D={self.D}{ending}"


CASES = [
    Case(kernel, dtype, D)
    for kernel in ("walk_outputs", "walk_states", "_convolve", "_add_norm")
    for dtype in DTYPES
    for D in WIDTHS
]
CASES += [
    Case("_add_norm", dtype, D, turns=turns)
    for turns in TURNS[1:]
    for dtype in DTYPES
    for D in WIDTHS
]
CASES += [Case("carry", torch.float32, D) for D in WIDTHS]
# Whatever the model's width: what counts is the number of classes.
CASES += [
    Case("_upsample_argmax", dtype, WIDTHS[0], probability=probability)
    for dtype in DTYPES
    for probability in (False, True)
]
# The pooled maps, the feature pyramid's levels, and a level that is added to a finer one.
CASES += [
    Case("_upsample_add", dtype, WIDTHS[0], maps=maps)
    for dtype in DTYPES
    for maps in ((4, 9), (3, 9), (1, 1))
]
# The boxes' features and the masks'.
CASES += [
    Case("_roi_align", dtype, D, bins=bins) for dtype in DTYPES for D in PYRAMID for bins in (7, 14)
]
# Whatever the model: boxes and masks are float32.
CASES += [Case("_nms", torch.float32, WIDTHS[0])]
CASES += [Case("_paste_masks", torch.float32, WIDTHS[0], writes=writes) for writes in (False, True)]


def compile_case(case: Case, architecture: int) -> bytes:
    """The cubin of a case, from the very launch that the kernel's public function makes."""
    launches = _launches(case)
    return next(launch for launch in launches if _is_of(launch, case)).cubin(architecture)


def hot_loop(cubin: bytes) -> list[str]:
    """The innermost loop with the most exponentials, one machine instruction a line."""
    return [instruction.text for instruction in disassemble(cubin).hot_loop()]


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


def _job(job: tuple[Case, int]) -> Usage:
    return usage(compile_case(*job))


def _is_of(launch: Launch, case: Case) -> bool:
    return launch.name == case.kernel and launch.arguments.get("WRITE", False) == case.writes


def _launches(case: Case) -> list[Launch]:
    """The launches that the public functions make for one long sequence."""
    made: list[Launch] = []
    D, E, S, R, T, K = case.D, 2 * case.D, case.S, case.D // 16, 2048, 2
    cu_seqlens = torch.tensor([0, T], dtype=torch.int32)
    xz = torch.empty(T, 2 * E, dtype=case.dtype)
    weights: dict[str, Any] = {
        "dt_weight": torch.empty(K, E, R, dtype=case.dtype),
        "dt_bias": torch.empty(K, E),
        "A": torch.empty(K, E, S),
        "D": torch.empty(K, E),
    }
    dt, B, C = torch.empty(K, T, R + 2 * S).split([R, S, S], 2)
    with recorded(made.append, multiprocessors=132):
        if case.kernel == "_add_norm":
            hidden = torch.empty(T, D, dtype=case.dtype)
            weight, turn = torch.empty(D, dtype=case.dtype), make_turn(T, D, case.turns)
            add_norm(hidden, torch.empty(T, D), weight, turn=turn)
        elif case.kernel == "_upsample_argmax":
            scores = torch.empty(312, 312, CLASSES, dtype=case.dtype).permute(2, 0, 1)
            upsample_argmax(scores, (1248, 1248), probability=case.probability)
        elif case.kernel == "_upsample_add":
            count, each = case.maps
            channels = BLOCK if each > 1 else D
            x = torch.empty(1, 312, 312, D, dtype=case.dtype)[..., :channels]
            maps = [torch.empty(1, 78, 78, each, channels, dtype=case.dtype)] * count
            bias = torch.empty(channels, dtype=case.dtype) if each > 1 else None
            upsample_add(x, maps, bias, relu=each > 1)
        elif case.kernel == "_roi_align":
            maps = [torch.empty(side * side, D, dtype=case.dtype) for side in (256, 128, 64, 32)]
            places, of = torch.empty(4, 1, 3, dtype=torch.int32), torch.empty(8, dtype=torch.int32)
            roi_align(maps, places, [4, 8, 16, 32], torch.empty(8, 4), of, of, case.bins)
        elif case.kernel == "_nms":
            nms(torch.empty(1000, 4), torch.empty(80, 1000, dtype=torch.int32), 0.5)
        elif case.kernel == "_paste_masks":
            paste_masks(torch.empty(100, 28, 28), torch.empty(100, 4), (1248, 1248), 0.5)
        elif case.kernel == "_convolve":
            taps, bias = (torch.empty(*shape, dtype=case.dtype) for shape in ((K, E, 4), (K, E)))
            conv1d(xz[:, :E], taps, bias, cu_seqlens, (False, True))
        else:
            selective_scan(
                torch.empty(K, T, E, dtype=case.dtype), dt, B=B, C=C, z=xz[:, E:], **weights,
                cu_seqlens=cu_seqlens, reverse=(False, True), side_by_side=True,
            )  # fmt: skip
    return made


if __name__ == "__main__":
    TABLE.write_text(table(usages()))
