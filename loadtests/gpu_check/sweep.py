"""The scan's schedule: every chunk on common shapes, with the time of each of its kernels.

The operands are those that the previous call has used. So what fits into the L2 cache is there, as
it is in a model, where the kernel before has just written it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vimserve.kernels.selective_scan import triton as scan
from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.gates import of, scan_inputs
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.loadtests.gpu_check.timing import kernel_ms
from vimserve.model.families.vim.config import VIM_TINY

CONFIG = VIM_TINY
DTYPE = torch.bfloat16
CHUNKS = (0, 8, 16, 32, 48, 64, 70, 80, 128, 256)
CASES = {
    f"{count} x {length}": [length] * count
    for length, counts_ in ((197, (1, 32, 128)), (6085, (1, 8, 32)))
    for count in counts_
}
CHOICE = "chunk_tokens"  # of the scan's module, which calls it once
OUTPUTS = "walk_outputs"  # the kernel that every schedule launches
KERNELS = ("walk_states", "carry", OUTPUTS)
SECONDS = 0.03  # for each time


def jobs() -> Iterator[Job]:
    """A job for each shape."""
    for name, lengths in CASES.items():
        yield Job(name, partial(_rows, lengths), (of("selective_scan", DTYPE),))


@contextmanager
def forced_chunk(chunk: int) -> Iterator[None]:
    """Within the block, the scan walks chunks of so many tokens, or whole sequences if it is 0."""
    chosen = getattr(scan, CHOICE)
    setattr(scan, CHOICE, lambda *_, **__: chunk)
    try:
        yield
    finally:
        setattr(scan, CHOICE, chosen)


@dataclass(frozen=True)
class Launch:
    """A launch of a kernel.

    Attributes:
        grid: programs along each axis.
        options: what was given by name.
        again: launches the kernel with the same operands, and returns it as it was compiled.
    """

    grid: tuple[int, ...]
    options: dict[str, Any]
    again: Callable[[], Any]


@contextmanager
def noted_launches() -> Iterator[dict[str, Launch]]:
    """Note the launches of the scan within the block.

    Yields:
        The launch of each kernel that was launched.
    """
    launches: dict[str, Launch] = {}
    kernels = {name: getattr(scan, name) for name in KERNELS}
    for name, kernel in kernels.items():
        setattr(scan, name, _Noted(name, kernel, launches))
    try:
        yield launches
    finally:
        for name, kernel in kernels.items():
            setattr(scan, name, kernel)


class _Noted:
    """A kernel whose launches are noted."""

    def __init__(self, name: str, kernel: Any, launches: dict[str, Launch]) -> None:
        self._name, self._kernel, self._launches = name, kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        def launch(*args: Any, **options: Any) -> Any:
            again = partial(self._kernel[grid], *args, **options)
            self._launches[self._name] = Launch(grid, options, again)
            return again()

        return launch


@torch.inference_mode()
def _rows(lengths: list[int], clock: Clock) -> Iterator[Row]:
    K, E = counts.directions(CONFIG), CONFIG.inner_width
    inputs = scan_inputs(lengths, DTYPE, E, CONFIG.states, CONFIG.dt_rank, K)
    options: dict[str, Any] = {"side_by_side": True, "max_seqlen": max(lengths)}
    labels = {"sequences": len(lengths), "longest": max(lengths), "tokens": sum(lengths)}

    def call() -> Tensor:
        return scan.selective_scan(**inputs, reverse=(False, True)[:K], **options)

    with noted_launches() as launches:
        expected = call()
    chosen = launches[OUTPUTS].options["chunk"]
    for chunk in sorted({*CHUNKS, chosen}):
        if clock.left > 0:
            with forced_chunk(chunk):
                times = _times(call, expected)
            yield {**labels, "chunk": chunk, "chosen": chunk == chosen, **times}


def _times(call: Callable[[], Tensor], expected: Tensor) -> Row:
    """Milliseconds of a call and of each of its kernels, and how far its result is off."""
    with noted_launches() as launches:
        out = call()
    outputs = launches[OUTPUTS]
    row: Row = {
        "programs": math.prod(outputs.grid),
        "warps": outputs.options["num_warps"],
        "ms": kernel_ms([call], SECONDS),
        "difference": _relative(out, expected),
    }
    for name, launch in launches.items():
        compiled = launch.again()
        row[f"{name}_ms"] = kernel_ms([launch.again], SECONDS)
        row[f"{name}_regs"] = getattr(compiled, "n_regs", None)
        row[f"{name}_spills"] = getattr(compiled, "n_spills", None)
    return row


def _relative(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest magnitude."""
    difference = (actual.float() - expected.float()).abs().max()
    return (difference / expected.float().abs().max()).item()
