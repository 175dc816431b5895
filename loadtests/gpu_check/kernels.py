"""Times each kernel on common shapes and compares it with its floors."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vimserve.kernels.add_norm import add_norm
from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.selective_scan import selective_scan
from vimserve.kernels.upsample_add import upsample_add
from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.counts import Cost, Floor
from vimserve.loadtests.gpu_check.gates import of, scan_inputs, upsample_inputs
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.loadtests.gpu_check.timing import copies_needed, kernel_ms
from vimserve.model.families.upernet.head import BLOCK
from vimserve.model.families.vim.config import VIM_SMALL, VIM_TINY, VimConfig

DTYPE = torch.bfloat16
MODELS = {"vim-tiny": VIM_TINY, "vim-small": VIM_SMALL}
SEQUENCES = {"1 x 6085": [6085], "32 x 197": [197] * 32, "16 x 6085": [6085] * 16}
UPSAMPLED = (312, 156, 78, 39)  # sides of the levels of an image of 1248 pixels

Make = Callable[[], Callable[[], object]]


def jobs(report: Report) -> Iterator[Job]:
    """A job for each model, kernel and shape, and one for the head of a segmenter."""
    for model, config in MODELS.items():
        for sequences, lengths in SEQUENCES.items():
            for kernel, (cost, make) in operations(config, lengths).items():
                yield Job(
                    f"{kernel} {model} {sequences}",
                    partial(_rows, cost, make, report),
                    (of(kernel, DTYPE),),
                )
    cost, make = upsampling()
    yield Job(
        f"upsample_add {UPSAMPLED[0]} x {UPSAMPLED[0]}",
        partial(_rows, cost, make, report),
        (of("upsample_add", DTYPE),),
    )


def floor_row(report: Report, cost: Cost) -> Row:
    """The floors of a cost at the rates in the report, in milliseconds; none without rates."""
    for row in report.rows.get("machine", []):
        if "special_per_s" in row:
            floor = Floor.of(cost, row["copy_bytes_per_s"], row["special_per_s"])
            return {"floor_bytes_ms": floor.bytes_ms, "floor_special_ms": floor.special_ms}
    return {}


def operations(config: VimConfig, lengths: list[int]) -> dict[str, tuple[Cost, Make]]:
    """For each operation its cost, and a function that makes a call with new operands."""
    K, E, D = counts.directions(config), config.inner_width, config.width
    T, itemsize = sum(lengths), DTYPE.itemsize

    def scan() -> Callable[[], Tensor]:
        inputs = scan_inputs(lengths, DTYPE, E, config.states, config.dt_rank, K)
        options: dict[str, Any] = {"side_by_side": True, "max_seqlen": max(lengths)}
        return lambda: selective_scan(**inputs, reverse=(False, True), **options)

    def conv() -> Callable[[], Tensor]:
        x = _draw(T, 2 * E)[:, :E]
        weight, bias = _draw(K, E, 4), _draw(K, E)
        cu_seqlens = torch.tensor([0, *lengths], device="cuda").cumsum(0).int()
        return lambda: conv1d(x, weight, bias, cu_seqlens, (False, True))

    def norm() -> Callable[[], object]:
        hidden, residual, weight = _draw(T, D), _draw(T, D).float(), _draw(D)
        return lambda: add_norm(hidden, residual, weight)

    return {
        "selective_scan": (counts.scan(config, T, itemsize), scan),
        "conv1d": (counts.conv(config, T, itemsize), conv),
        "add_norm": (counts.norm(config, T, itemsize), norm),
    }


def upsampling() -> tuple[Cost, Make]:
    """The same for a block of the channels of a segmenter's finest level, to which three add."""
    size, *sizes = [(side, side) for side in UPSAMPLED]
    moved = 2 * size[0] * size[1] + sum(9 * rows * cols for rows, cols in sizes)

    def upsample() -> Callable[[], Tensor]:
        x, maps, bias = upsample_inputs(size, sizes, 9, DTYPE)
        return lambda: upsample_add(x[:1], [products[:1] for products in maps], bias, relu=True)

    return Cost(moved * BLOCK * DTYPE.itemsize), upsample


def _rows(cost: Cost, make: Make, report: Report, clock: Clock) -> Iterator[Row]:  # noqa: ARG001
    with torch.inference_mode():
        ms = kernel_ms([make() for _ in range(copies_needed(cost.bytes))])
    floors = floor_row(report, cost)
    over = {"over_floor": ms / max(floors.values())} if floors else {}
    yield {"ms": ms, "bytes_per_s": 1e3 * cost.bytes / ms, **floors, **over}


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda").to(DTYPE)
