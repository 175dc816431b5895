"""CUDA graphs: a forward pass recorded once per bucket of tokens and replayed for every batch.

A Vim-Ti launches some 170 kernels, each of which runs for a few microseconds at 224 pixels:
launching them one by one takes longer than running them. A graph has fixed shapes, so a batch is
padded to a bucket. The padding forms sequences of its own. State never crosses from one sequence to
the next, so the padding changes no image's answer.
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch, to_device
from vimserve.model.buckets import AnyBucket, choose_bucket
from vimserve.model.layout import Layout, class_rows
from vimserve.model.packed import PackedModel
from vimserve.model.served import Answers, MapSize

logger = logging.getLogger(__name__)

WARM_UPS = 2


class GraphedModel:
    """A model whose forward passes are replayed; one thread at a time may call it.

    What no bucket holds runs without a graph. After the model's parameters have changed, make
    another one.

    Args:
        model: on a CUDA device.
        buckets: ascending; a graph is made for each.

    Raises:
        ValueError: if the model is not on a CUDA device.
    """

    @torch.inference_mode()
    def __init__(self, model: PackedModel, buckets: Sequence[AnyBucket]) -> None:
        start = time.monotonic()
        self._model = model
        self._buckets = buckets
        self._inputs = StaticInputs(model, buckets)
        self._recordings: dict[AnyBucket, Recording] = {}
        pool = None
        # The largest is recorded first, so that the smaller ones can use its memory.
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

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[MapSize | None]) -> Answers:  # noqa: ARG002
        """Class scores, as the model's own ``answer``."""
        return Answers.of_scores(self(batch))


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
        buckets: of all graphs.
    """

    def __init__(self, model: PackedModel, buckets: Sequence[AnyBucket]) -> None:
        weight = model.patch_embed.proj.weight
        self._config = model.config
        self._tokens = weight.new_zeros(max(b.tokens for b in buckets), model.config.width)
        self._flat = weight.new_zeros(max(map(self._ints, buckets)), dtype=torch.int32)

    def view(self, bucket: AnyBucket) -> tuple[Tensor, Layout]:
        """The bucket's tokens and layout, whose ``lengths`` are the bucket's ``host_lengths``."""
        flat = self._flat[: self._ints(bucket)]
        return self._tokens[: bucket.tokens], Layout.view(
            flat, bucket.sequences, bucket.host_lengths
        )

    def fill(self, bucket: AnyBucket, tokens: Tensor, batch: PackedBatch, layout: Layout) -> None:
        """Copy a batch in and pad it."""
        padded, _ = self.view(bucket)
        padded[: len(tokens)].copy_(tokens)
        padded[len(tokens) :].zero_()
        self._write_layout(bucket, layout.lengths, class_rows(self._config.pooling, batch.grids))

    def clear(self, bucket: AnyBucket) -> None:
        """Fill the bucket with padding alone."""
        self._tokens.zero_()
        self._write_layout(bucket, (), [])

    def _write_layout(
        self, bucket: AnyBucket, lengths: Sequence[int], rows: list[tuple[int, ...]]
    ) -> None:
        values = list(accumulate(bucket.pad(lengths), initial=0))
        values += [row for image in rows for row in image]
        values += [0] * (self._ints(bucket) - len(values))  # padding is classified by any token
        self._flat[: len(values)].copy_(to_device(values, self._flat.device))

    def _ints(self, bucket: AnyBucket) -> int:
        return bucket.sequences * (1 + self._config.class_tokens) + 1
