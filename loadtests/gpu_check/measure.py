"""Measures kernels and models on a GPU: time, bytes a second, memory, ratio to the floors."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vimserve.kernels.add_norm import add_norm
from vimserve.kernels.conv1d import conv1d
from vimserve.kernels.selective_scan import selective_scan
from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.counts import Cost, Floor
from vimserve.loadtests.gpu_check.exponentials import exponentials_per_s
from vimserve.loadtests.gpu_check.gates import scan_inputs
from vimserve.loadtests.gpu_check.timing import (
    copies_needed,
    copy_bytes_per_s,
    kernel_ms,
    median_ms,
)
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import choose_bucket, make_buckets
from vimserve.model.config import VIM_SMALL, VIM_TINY, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.graphs import GraphedModel

DTYPE = torch.bfloat16
MODELS = {"vim-tiny": VIM_TINY, "vim-small": VIM_SMALL}
SIZES = (224, 512, 768, 1024, 1248, 2048)
QUICK_SIZES = (224, 1248)
SEQUENCES = {"1 x 6085": [6085], "32 x 197": [197] * 32, "16 x 6085": [6085] * 16}
GRAPHED_TOKENS = 20_000  # holds the largest image; graphs are for small batches
WORTH_DOUBLING = 1.03
MEMORY_SHARE = 0.5
BUDGET_S = 300.0


def everything(*, quick: bool) -> dict[str, Any]:
    """Measure kernels and models and print tables.

    Returns:
        The figures, ready for JSON.
    """
    begin = time.monotonic()
    bytes_per_s, special = copy_bytes_per_s(), exponentials_per_s()
    print(f"device copy {bytes_per_s / 1e12:.2f} TB/s, {special / 1e12:.2f}e12 exponentials/s")
    models = dict(list(MODELS.items())[:1]) if quick else MODELS
    floor_of = functools.partial(Floor.of, bytes_per_s=bytes_per_s, special_per_s=special)
    kernels = [
        {"model": name, **row}
        for name, config in models.items()
        for row in _kernels(config, floor_of, bytes_per_s)
    ]
    _print_kernels(kernels)
    rows = []
    for name, config in models.items():
        for size in QUICK_SIZES if quick else SIZES:
            if time.monotonic() - begin > BUDGET_S:
                print(f"{name} at {size} left out: {BUDGET_S:.0f} s have passed")
                continue
            for row in _model(config, size, floor_of):
                rows.append({"model": name, **row})
                _print_model(rows[-1], header=len(rows) == 1)
    return {
        "dtype": "bfloat16",
        "copy_bytes_per_s": bytes_per_s,
        "special_per_s": special,
        "kernels": kernels,
        "models": rows,
    }


def _kernels(
    config: VimConfig, floor_of: Callable[[Cost], Floor], copy_rate: float
) -> Iterator[dict[str, Any]]:
    for sequences, lengths in SEQUENCES.items():
        for name, (cost, make) in _operations(config, lengths).items():
            with torch.inference_mode():
                calls = [make() for _ in range(copies_needed(cost.bytes))]
                ms = kernel_ms(calls)
            floor = floor_of(cost)
            yield {
                "kernel": name,
                "sequences": sequences,
                "ms": ms,
                "bytes_per_s": cost.bytes / (1e-3 * ms),
                "of_copy": cost.bytes / (1e-3 * ms) / copy_rate,
                "floor_bytes_ms": floor.bytes_ms,
                "floor_special_ms": floor.special_ms,
                "over_floor": ms / floor.ms,
            }


def _operations(
    config: VimConfig, lengths: list[int]
) -> dict[str, tuple[Cost, Callable[[], Callable[[], object]]]]:
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


def _model(
    config: VimConfig, size: int, floor_of: Callable[[Cost], Floor]
) -> Iterator[dict[str, Any]]:
    model = Vim(config).to("cuda", DTYPE).eval()
    grid = (size // config.patch_size, size // config.patch_size)
    with torch.inference_mode():
        alone = _measure(model, model, grid, 1)
        yield _row(config, size, grid, 1, "eager", alone, floor_of)
        if bucket := choose_bucket(make_buckets(GRAPHED_TOKENS), [model.num_tokens(grid)]):
            graphed = GraphedModel(model, [bucket])
            figures = _measure(model, graphed, grid, 1)
            yield _row(config, size, grid, 1, "graphs", figures, floor_of)
        batch, best = 1, alone
        while True:
            # A GPU is full once twice the batch takes twice the time.
            free, _ = torch.cuda.mem_get_info()
            if 2 * best[1] > MEMORY_SHARE * free:
                break
            figures = _measure(model, model, grid, 2 * batch)
            if 2 * best[0] / figures[0] < WORTH_DOUBLING:
                break
            batch, best = 2 * batch, figures
        yield _row(config, size, grid, batch, "eager", best, floor_of)


def _measure(
    model: Vim, run: Callable[[PackedBatch], Tensor], grid: tuple[int, int], images: int
) -> tuple[float, int]:
    """Median milliseconds of a forward pass, and its peak memory above weights and patches, in
    bytes.
    """
    config = model.config
    pixels = 3 * config.patch_size**2
    patches = images * grid[0] * grid[1]
    batches = [
        PackedBatch(_draw_pixels(patches, pixels), (grid,) * images)
        for _ in range(min(4, copies_needed(patches * pixels)))
    ]
    run(batches[0])
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(batches[0])
    peak = torch.cuda.max_memory_allocated() - before
    if isinstance(run, GraphedModel):  # whose replay allocates nothing
        peak += run.answer(batches[0], [None] * images).recorded_bytes
    return median_ms([functools.partial(run, batch) for batch in batches]), peak


def _row(
    config: VimConfig, size: int, grid: tuple[int, int], batch: int, mode: str,
    figures: tuple[float, int], floor_of: Callable[[Cost], Floor],
) -> dict[str, Any]:  # fmt: skip
    ms, peak = figures
    floor = floor_of(counts.forward(config, batch, grid, DTYPE.itemsize))
    return {
        "size": size,
        "batch": batch,
        "mode": mode,
        "ms": ms,
        "images_per_s": 1e3 * batch / ms,
        "peak_above_weights_bytes": peak,
        "floor_bytes_ms": floor.bytes_ms,
        "floor_special_ms": floor.special_ms,
        "over_floor": ms / floor.ms,
    }


def _print_kernels(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'kernel':<16}{'model':<11}{'sequences':<11}{'us':>8}{'TB/s':>7}"
          f"{'of copy':>9}{'x floor':>9}")  # fmt: skip
    for row in rows:
        print(
            f"{row['kernel']:<16}{row['model']:<11}{row['sequences']:<11}{1e3 * row['ms']:>8.1f}"
            f"{row['bytes_per_s'] / 1e12:>7.2f}{row['of_copy']:>9.0%}{row['over_floor']:>9.2f}"
        )


def _print_model(row: dict[str, Any], *, header: bool) -> None:
    if header:
        print(f"\n{'model':<11}{'pixels':>7}{'batch':>6} {'mode':<7}{'ms':>9}{'images/s':>10}"
              f"{'MB above':>10}{'floor ms':>10}{'x floor':>9}")  # fmt: skip
    floor = max(row["floor_bytes_ms"], row["floor_special_ms"])
    print(
        f"{row['model']:<11}{row['size']:>7}{row['batch']:>6} {row['mode']:<7}{row['ms']:>9.3f}"
        f"{row['images_per_s']:>10.1f}{row['peak_above_weights_bytes'] / 1e6:>10.1f}"
        f"{floor:>10.3f}{row['over_floor']:>9.2f}",
        flush=True,
    )


def _draw_pixels(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, device="cuda")


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda").to(DTYPE)
