"""All buckets of the server's runner, two batches in flight, with the memory before and after."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from vimserve.loadtests.gpu_check.gates import Gate
from vimserve.loadtests.gpu_check.models import DTYPE, GRAPH_TOKENS, uses
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row
from vimserve.model.buckets import AnyBucket, EqualBucket, choose_bucket

if TYPE_CHECKING:
    from vimserve.server.config import Config
    from vimserve.server.engine.request import Image
    from vimserve.server.engine.runner import Runner

MODELS = ("vim-tiny", "deit-tiny", "vim-tiny-upernet")
TOLERANCE = 1e-3  # of the largest score: both passes run the same kernels on the same numbers


def jobs() -> Iterator[Job]:
    """A job for each model."""
    for name in MODELS:
        yield Job(name, _rows(name), uses(name))


def _rows(name: str) -> Callable[[Clock], Iterator[Row]]:
    def rows(clock: Clock) -> Iterator[Row]:
        from vimserve.server.engine.device import backbone_of

        runner = _load(name)
        yield {"model": name, "when": "before recording", **memory()}
        begin = time.monotonic()
        runner.record_graphs(GRAPH_TOKENS, lambda lengths: True)  # noqa: ARG005
        torch.cuda.synchronize()
        backbone = backbone_of(runner.module)
        buckets = backbone.graph_buckets(GRAPH_TOKENS) if backbone else []
        class_tokens = backbone.config.class_tokens if backbone else 0
        seconds = time.monotonic() - begin
        yield {
            "model": name, "when": "after recording", "buckets": len(buckets),
            "seconds": seconds, **memory(),
        }  # fmt: skip
        patch = runner.spec.config.patch_size
        for bucket in buckets:
            if clock.fair <= 0:
                yield {"model": name, "no_time_from": str(bucket)}
                break
            side = patch * largest_side(bucket, class_tokens)
            yield {"model": name, **_in_flight(runner, bucket, side, buckets)}
        yield {"model": name, "when": "after all batches", **memory()}

    return rows


def memory() -> Row:
    """What is allocated, what is reserved for it, and what the driver says is free, in bytes."""
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    return {
        "allocated_bytes": torch.cuda.memory_allocated(),
        "reserved_bytes": torch.cuda.memory_reserved(),
        "driver_free_bytes": free,
    }


def largest_side(bucket: AnyBucket, class_tokens: int) -> int:
    """Patches along the side of the largest square image that the bucket holds."""
    longest = bucket.length if isinstance(bucket, EqualBucket) else bucket.longest
    return math.isqrt(longest - class_tokens)


def _load(name: str) -> "Runner":
    """The server's runner of a model with random weights."""
    from vimserve.loadtests.common.weights import random_weights
    from vimserve.model.catalog import resolve
    from vimserve.server.engine.runner import Runner

    settings = SimpleNamespace(device="cuda", model_dtype=str(DTYPE).removeprefix("torch."))
    with tempfile.TemporaryDirectory() as folder:
        file = random_weights(name, Path(folder))
        return Runner(resolve(f"{name}={file}"), cast("Config", settings))


def _in_flight(
    runner: "Runner", bucket: AnyBucket, side: int, buckets: Sequence[AnyBucket]
) -> Row:  # fmt: skip
    """Fill a bucket, alone and with a second batch in flight, and compare the answers."""
    tokens = runner.tokens(side, side)
    room = bucket.sequences - (0 if isinstance(bucket, EqualBucket) else 1)
    count = max(1, min(room, bucket.tokens // tokens))
    first, second = ([_random_image(runner, side, seed)] * count for seed in range(2))
    alone = [runner.run(images) for images in (first, second)]
    begin = time.monotonic()
    runner.run(first)
    ms_alone = 1e3 * (time.monotonic() - begin)
    begin = time.monotonic()
    passes = [runner.start(images) for images in (first, second)]
    together = [each.outputs() for each in passes]
    ms_two = 1e3 * (time.monotonic() - begin)
    chosen = choose_bucket(buckets, [tokens] * count)
    error = max(_difference(a, b) for a, b in zip(together, alone, strict=True))
    gate = Gate(f"two in flight {bucket}", error, TOLERANCE)
    return {
        "bucket_tokens": bucket.tokens,
        "bucket": str(bucket),
        "chosen": str(chosen) if chosen != bucket else "this",
        "side": side,
        "images": count,
        "ms_alone": ms_alone,
        "ms_two_in_flight": ms_two,
        **gate.row,
    }


def _random_image(runner: "Runner", side: int, seed: int) -> "Image":
    from vimserve.server.engine.request import Image

    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, side, side), dtype=torch.uint8, generator=random)
    return Image((side, side), runner.pack(pixels), runner.tokens(side, side), (side, side))


def _difference(actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """The largest difference of all scores, of the largest magnitude; NaN if there are none."""
    if any(tensor is None for tensor in (*actual, *expected)):
        return float("nan")
    found, right = (torch.stack(cast("list[Tensor]", list(t))).float() for t in (actual, expected))
    return ((found - right).abs().max() / right.abs().max()).item()
