"""CUDA graphs: a forward pass recorded once per bucket of tokens and replayed for every batch.

A Vim-Ti launches some 170 kernels, each of a few microseconds at 224 pixels: launching them one by
one takes longer than running them. A graph has fixed shapes, so a batch is padded to a bucket. The
padding is sequences of its own; state never crosses a boundary, so it changes no image's answer.
"""

import functools
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from model.batch import PackedBatch, to_device
from model.layout import Layout, class_rows
from model.vim import Vim

logger = logging.getLogger(__name__)

POOLINGS = ("middle", "head", "double", "last")  # the others read a varying number of tokens
SMALLEST_TOKENS = 256
STEPS_PER_OCTAVE = 4
# Squares often have a power of two of patches, and the class tokens come on top.
EXTRA_TOKENS = 64
TOKENS_PER_IMAGE = 64
WARM_UPS = 2


@dataclass(frozen=True, order=True)
class Bucket:
    """The shapes of one graph.

    Attributes:
        tokens: of the padded batch.
        longest: the length that no image passes; kernels choose their schedule by it.
    """

    tokens: int
    longest: int

    @property
    def sequences(self) -> int:
        """Images and runs of padding, of which there is at least one."""
        return self.tokens // TOKENS_PER_IMAGE


def make_buckets(max_tokens: int) -> list[Bucket]:
    """Ascending buckets, the last of which take ``max_tokens``."""
    sizes: list[int] = []
    octave = SMALLEST_TOKENS
    while not sizes or sizes[-1] < max_tokens:
        step = octave // STEPS_PER_OCTAVE
        sizes += [octave + i * step + EXTRA_TOKENS for i in range(STEPS_PER_OCTAVE)]
        octave *= 2
    sizes = sizes[: bisect_left(sizes, max_tokens) + 1]
    return sorted(
        Bucket(tokens, tokens // part)
        for tokens in sizes
        for part in (1, 4, 16)
        if tokens // part >= SMALLEST_TOKENS or part == 1
    )


def choose_bucket(buckets: Sequence[Bucket], lengths: Sequence[int]) -> Bucket | None:
    """The smallest bucket that holds images of these lengths, if there is one."""
    tokens, images, longest = sum(lengths), len(lengths), max(lengths)
    fitting = (
        bucket
        for bucket in buckets
        if tokens <= bucket.tokens and longest <= bucket.longest and images < bucket.sequences
    )
    return next(fitting, None)


def pad_lengths(bucket: Bucket, lengths: Sequence[int]) -> list[int]:
    """The lengths of all the bucket's sequences: the images, then the padding.

    The padding is spread evenly, so that no run of it is walked for longer than the images are.
    """
    left, slots = bucket.tokens - sum(lengths), bucket.sequences - len(lengths)
    return [*lengths, *(left * (i + 1) // slots - left * i // slots for i in range(slots))]


class GraphedVim:
    """A Vim whose forward passes are replayed; one thread at a time may call it.

    What no bucket holds runs without a graph. After the model's parameters have changed, make
    another one.

    Args:
        model: on a CUDA device.
        buckets: ascending; a graph is made for each.

    Raises:
        ValueError: if the model's pooling cannot be recorded or it is not on a CUDA device.
    """

    @torch.inference_mode()
    def __init__(self, model: Vim, buckets: Sequence[Bucket]) -> None:
        if model.config.pooling not in POOLINGS:
            raise ValueError(
                f"pooling={model.config.pooling!r} cannot be recorded as a CUDA graph, only "
                f"{', '.join(POOLINGS)}: run the model itself"
            )
        start = time.monotonic()
        self._model = model
        self._buckets = buckets
        self._inputs = StaticInputs(model, buckets[-1])
        self._recordings: dict[Bucket, Recording] = {}
        pool = None
        # The largest first: the smaller ones then live in its memory.
        for bucket in reversed(buckets):
            self._inputs.clear(bucket)
            run = functools.partial(model.classify, *self._inputs.view(bucket))
            self._recordings[bucket] = record(run, pool)
            pool = self._recordings[bucket].graph.pool()
        logger.info("%d CUDA graphs in %.1f s", len(buckets), time.monotonic() - start)

    @torch.inference_mode()
    def __call__(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]``, as the model's own ``forward``."""
        tokens, layout = self._model.embed(batch)
        bucket = choose_bucket(self._buckets, layout.lengths)
        if bucket is None:
            return self._model.classify(tokens, layout)
        self._inputs.fill(bucket, tokens, batch, layout)
        recording = self._recordings[bucket]
        recording.graph.replay()
        # A copy, because the next replay writes to the same memory.
        return recording.scores[: batch.num_images].clone()


@dataclass(frozen=True)
class Recording:
    """A graph and the tensor that its replay fills."""

    graph: torch.cuda.CUDAGraph
    scores: Tensor


def record(run: Callable[[], Tensor], pool: Any) -> Recording:
    """Record what ``run`` launches, in the memory ``pool`` of other graphs unless it is None.

    Raises:
        ValueError: without a CUDA device.
    """
    if not torch.cuda.is_available():
        raise ValueError("CUDA graphs need a CUDA device")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):  # compiles kernels and lets cuBLAS take its workspace
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        scores = run()
    return Recording(graph, scores)


class StaticInputs:
    """The memory that graphs read their batch from, shared by all buckets.

    Args:
        model: whose tokens these are.
        largest: no bucket has more tokens.
    """

    def __init__(self, model: Vim, largest: Bucket) -> None:
        weight = model.norm_f.weight
        self._config = model.config
        self._tokens = torch.zeros(
            largest.tokens, model.config.width, dtype=weight.dtype, device=weight.device
        )
        self._flat = torch.zeros(self._ints(largest), dtype=torch.int32, device=weight.device)

    def view(self, bucket: Bucket) -> tuple[Tensor, Layout]:
        """The bucket's tokens and layout; the host knows only the longest length of the latter."""
        flat = self._flat[: self._ints(bucket)]
        return self._tokens[: bucket.tokens], Layout.view(flat, bucket.sequences, (bucket.longest,))

    def fill(self, bucket: Bucket, tokens: Tensor, batch: PackedBatch, layout: Layout) -> None:
        """Copy a batch in and pad it."""
        padded, _ = self.view(bucket)
        padded[: len(tokens)].copy_(tokens)
        padded[len(tokens) :].zero_()
        self._write_layout(bucket, layout.lengths, class_rows(self._config.pooling, batch.grids))

    def clear(self, bucket: Bucket) -> None:
        """Fill the bucket with padding alone."""
        self._tokens.zero_()
        self._write_layout(bucket, (), [])

    def _write_layout(
        self, bucket: Bucket, lengths: Sequence[int], rows: list[tuple[int, ...]]
    ) -> None:
        values = list(accumulate(pad_lengths(bucket, lengths), initial=0))
        values += [row for image in rows for row in image]
        values += [0] * (self._ints(bucket) - len(values))  # padding is classified by any token
        self._flat[: len(values)].copy_(to_device(values, self._flat.device))

    def _ints(self, bucket: Bucket) -> int:
        return bucket.sequences * (1 + self._config.class_tokens) + 1
