"""Vim against DeiT: time and memory of a forward pass at common sizes, for one image and for many.

The memory of a recorded pass is that of its recording, since a replay allocates nothing, and of
what runs outside of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vimserve.loadtests.gpu_check import counts
from vimserve.loadtests.gpu_check.gates import OPERATIONS, of
from vimserve.loadtests.gpu_check.kernels import floor_row
from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.loadtests.gpu_check.timing import copies_needed, median_ms, peak_bytes
from vimserve.model.architecture import BackboneConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import EqualBucket, choose_bucket
from vimserve.model.families.deit.config import DEIT_TINY
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.config import VIM_TINY, VimConfig
from vimserve.model.families.vim.model import Vim
from vimserve.model.graphs import GraphedModel
from vimserve.model.packed import PackedModel

DTYPE = torch.bfloat16
MODELS: dict[str, BackboneConfig] = {
    "vim-tiny": VIM_TINY,
    "deit-tiny": DEIT_TINY,
    "deit-tiny-eager": dataclasses.replace(DEIT_TINY, attention="eager"),
}
SIZES = (1248, 224, 2048, 512, 1024, 768)  # what matters most comes first
GRAPH_TOKENS = 65_536  # the server's largest batch on a GPU
LONGEST_MS = 2000.0  # of a pass, after which no larger batch is tried
RUNS_OF_TWICE = 12.0  # what measuring twice the batch takes, in passes of the batch

Figures = tuple[float, int]  # milliseconds, bytes


def jobs(report: Report) -> Iterator[Job]:
    """One image of every size, then growing batches."""
    for batches in ("one", "many"):
        for size in SIZES:
            for name in MODELS:
                rows = _one if batches == "one" else _many
                yield Job(f"{name} {size} {batches}", rows(name, size, report), uses(name))


def uses(name: str) -> tuple[str, ...]:
    """The gates' subjects that a model's figures depend on."""
    family = name.partition("-")[0]
    subjects = [family, f"{family} graphs", *(OPERATIONS if family == "vim" else ())]
    return tuple(of(subject, DTYPE) for subject in subjects)


@functools.cache
def build(name: str) -> PackedModel:
    """A model with random weights on the device."""
    config = MODELS[name]
    model = Vim(config) if isinstance(config, VimConfig) else DeiT(config)  # type: ignore[arg-type]
    return model.to("cuda", DTYPE).requires_grad_(False).eval()


def square_batch(config: BackboneConfig, size: int, images: int) -> PackedBatch:
    """``images`` square images of random pixels on the device."""
    side = size // config.patch_size
    shape = (images * side * side, 3 * config.patch_size**2)
    pixels = torch.randint(256, shape, dtype=torch.uint8, device="cuda")
    return PackedBatch(pixels, ((side, side),) * images)


def graphed_for(model: PackedModel, batch: PackedBatch) -> GraphedModel | None:
    """The model with the graph that the server would replay for a batch, if it has one.

    A DeiT gets one for every size, so that it lacks no advantage.
    """
    lengths = [model.num_tokens(grid) for grid in batch.grids]
    bucket = choose_bucket(model.graph_buckets(GRAPH_TOKENS), lengths)
    if bucket is None and isinstance(model, DeiT):
        bucket = EqualBucket(len(lengths), lengths[0])
    return GraphedModel(model, [bucket]) if bucket else None


def _one(name: str, size: int, report: Report) -> Callable[[Clock], Iterator[Row]]:
    def rows(clock: Clock) -> Iterator[Row]:  # noqa: ARG001
        model = build(name)
        yield _row(name, size, 1, "eager", _measure(model, model, size, 1), report)
        yield from _graphed(name, size, 1, report)

    return rows


def _many(name: str, size: int, report: Report) -> Callable[[Clock], Iterator[Row]]:
    def rows(clock: Clock) -> Iterator[Row]:
        model, images, recorded = build(name), 2, 1
        tokens = model.num_tokens((size // model.config.patch_size,) * 2)
        while True:
            try:
                figures = _measure(model, model, size, images)
            except torch.OutOfMemoryError:
                yield {**_labels(name, size, images, "eager"), "stopped": "out of memory"}
                break
            row = _row(name, size, images, "eager", figures, report)
            stop = _reason_to_stop(*figures, clock)
            yield {**row, "stopped": stop} if stop else row
            if 2 * images * tokens <= GRAPH_TOKENS:
                recorded = 2 * images
            if stop:
                break
            images *= 2
        torch.cuda.empty_cache()
        if recorded > 1:
            yield from _graphed(name, size, min(recorded, images), report)

    return rows


def _reason_to_stop(ms: float, peak: int, clock: Clock) -> str:
    """Why twice the batch is not to be tried; empty if it is."""
    free, _ = torch.cuda.mem_get_info()
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if 2 * peak > free + kept:
        return f"twice the batch takes more than {(free + kept) / 1e9:.1f} GB"
    if 2 * ms > LONGEST_MS:
        return "twice the batch takes too long"
    return "no time" if RUNS_OF_TWICE * ms > 1e3 * clock.fair else ""


def _graphed(name: str, size: int, images: int, report: Report) -> Iterator[Row]:
    model = build(name)
    batch = square_batch(model.config, size, images)
    made: list[GraphedModel | None] = []
    recording = peak_bytes(lambda: made.append(graphed_for(model, batch)))
    if (graphed := made.pop()) is None:
        return
    recorded = graphed.answer(batch, [None] * images).recorded_bytes
    ms, replaying = _measure(model, graphed, size, images)
    row = _row(name, size, images, "graphs", (ms, recorded + replaying), report)
    yield {**row, "recording_bytes": recording}


def _measure(
    model: PackedModel, run: Callable[[PackedBatch], Tensor], size: int, images: int
) -> Figures:
    """Median milliseconds of a pass, and its peak above weights and patches in bytes."""
    config = model.config
    size_of_one = images * 3 * size * size
    batches = [
        square_batch(config, size, images) for _ in range(min(4, copies_needed(size_of_one)))
    ]
    run(batches[0])
    peak = peak_bytes(lambda: run(batches[0]))
    return median_ms([functools.partial(run, batch) for batch in batches]), peak


def _labels(name: str, size: int, images: int, mode: str) -> Row:
    return {"model": name, "size": size, "images": images, "mode": mode}


def _row(
    name: str, size: int, images: int, mode: str, figures: Figures, report: Report
) -> Row:  # fmt: skip
    ms, peak = figures
    row = _labels(name, size, images, mode)
    row |= {"ms": ms, "images_per_s": 1e3 * images / ms, "peak_above_weights_bytes": peak}
    config = MODELS[name]
    if isinstance(config, VimConfig):
        grid = (size // config.patch_size,) * 2
        floors = floor_row(report, counts.forward(config, images, grid, DTYPE.itemsize))
        row |= floors | ({"over_floor": ms / max(floors.values())} if floors else {})
    return row
