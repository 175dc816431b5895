"""A UPerNet's forward passes as CUDA graphs.

The backbone is recorded for each bucket of tokens, the head for common squares: what it launches
differs with the size of the images. Images of one square go through the recordings of powers of
two, so that the head, which takes longer than the backbone, never computes padding.
"""

import functools
import logging
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.buckets import COMMON_SIDES, AnyBucket
from vimserve.model.families.upernet.config import FEATURES, UPerNetConfig
from vimserve.model.families.upernet.model import (
    HEAD_PATCHES,
    UPerNetSegmenter,
    as_maps,
    of_images,
)
from vimserve.model.families.upernet.segmenter import answers
from vimserve.model.graphs import Recorder, Recording, TokenGraphs
from vimserve.model.layout import Grid, Layout, equal_groups
from vimserve.model.served import Answers, Wanted

logger = logging.getLogger(__name__)

SCORES_A_PATCH = 16  # positions of the class scores: four times the rows and the columns


class GraphedSegmenter:
    """A segmenter whose forward passes are replayed; one thread at a time may call it.

    What no bucket or no square holds runs without a graph, and so does that for whose graph there
    was no memory. After the model's parameters have changed, make another one.

    Args:
        model: on a CUDA device.
        buckets: of the backbone, ascending; a graph is made for each.

    Raises:
        ValueError: if the model is not on a CUDA device.
    """

    @torch.inference_mode()
    def __init__(self, model: UPerNetSegmenter, buckets: Sequence[AnyBucket]) -> None:
        start = time.monotonic()
        recorder, tokens = Recorder(), max(bucket.tokens for bucket in buckets)
        self._model = model
        # All buckets write their features to one place, from which the head reads.
        weight, width = model.backbone.pos_embed, model.config.backbone.width
        self._features = weight.new_empty(FEATURES, tokens, width)
        self._backbone = TokenGraphs(model.backbone, self._run_backbone, buckets, recorder)
        self._head = HeadGraphs(model, tokens, recorder)
        logger.info("%d CUDA graphs in %.1f s", recorder.count, time.monotonic() - start)

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        """As the model's own ``answer``, and the memory of the graphs."""
        features, peak_bytes = self._backbone(batch, *self._model.backbone.embed(batch))
        patches = self._model.packed.of_patches([*features], batch)
        peaks = [peak_bytes]
        made = answers(self._head.scores(patches, batch.grids, peaks), wanted)
        return Answers(made.outputs, made.finite, max(peaks))

    def _run_backbone(self, tokens: Tensor, layout: Layout) -> Tensor:
        """``[4, T, D]`` of ``[T, D]``."""
        features = self._model.backbone.features(tokens, layout, self._model.config.out_indices)
        if len(tokens) > self._features.shape[1]:
            return torch.stack(features)
        return torch.stack(features, out=self._features[:, : len(tokens)])


class HeadGraphs:
    """The head, recorded for powers of two of images of common squares.

    Args:
        model: on a CUDA device.
        max_tokens: of the largest batch.
        recorder: records.
    """

    def __init__(self, model: UPerNetSegmenter, max_tokens: int, recorder: Recorder) -> None:
        config, weight = model.config, model.backbone.pos_embed
        shapes = head_shapes(config, max_tokens)
        patches = max((images * rows * cols for images, (rows, cols) in shapes), default=0)
        self._model = model
        self._features = weight.new_zeros(FEATURES, patches, config.backbone.width)
        self._scores = weight.new_empty(SCORES_A_PATCH * patches * config.num_classes)
        self._recordings: dict[tuple[int, Grid], Recording] = {}
        for images, grid in shapes:
            what = f"the head and {images} images of {grid[0]}x{grid[1]} patches"
            if recording := recorder.record(functools.partial(self._run, images, grid), what):
                self._recordings[images, grid] = recording

    def scores(
        self, features: Sequence[Tensor], grids: Sequence[Grid], peaks: list[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each image and its class scores, which the next may overwrite.

        Args:
            features: of all patches, ``[T, D]``, after each of ``out_indices``.
            grids: of the images.
            peaks: gets the peak bytes of each graph that is replayed.
        """
        for group in equal_groups(grids, HEAD_PATCHES):
            grid = grids[group[0]]
            for part in self._parts(group, grid):
                images = of_images(features, grids, part)
                yield from zip(part, self._decode(images, grid, peaks), strict=True)

    def _parts(self, group: list[int], grid: Grid) -> Iterator[list[int]]:
        """The images of a group, so many together as there are recordings of."""
        for images in sorted((n for n, of in self._recordings if of == grid), reverse=True):
            while len(group) >= images:
                yield group[:images]
                group = group[images:]
        if group:
            yield group

    def _decode(self, images: list[list[Tensor]], grid: Grid, peaks: list[int]) -> Tensor:
        recording = self._recordings.get((len(images[0]), grid))
        if recording is None:
            return self._model.decode(images, grid)
        for place, of_block in zip(self._places(len(images[0]), grid), images, strict=True):
            torch.stack(of_block, out=place)
        scores, peak_bytes = recording.replay()
        peaks.append(peak_bytes)
        return scores

    def _run(self, images: int, grid: Grid) -> Tensor:
        """What is recorded: from ``_features`` to ``_scores``, which all recordings share."""
        scores = self._model.run_head([as_maps(p, grid) for p in self._places(images, grid)])
        _, classes, height, width = scores.shape
        places = self._scores[: scores.numel()].view(images, height * width, classes)
        return as_maps(places, (height, width)).copy_(scores)

    def _places(self, images: int, grid: Grid) -> Tensor:
        """``[4, images, rows * columns, D]``: where the head reads its features."""
        patches = grid[0] * grid[1]
        return self._features[:, : images * patches].unflatten(1, (images, patches))


def head_shapes(config: UPerNetConfig, max_tokens: int) -> list[tuple[int, Grid]]:
    """Images, a power of two, and their grid for each graph of the head, the largest first."""
    sides = {config.trained_size[0], *COMMON_SIDES}
    lengths = {(side - config.patch_size) // config.stride + 1 for side in sides}
    shapes = []
    for n in lengths:
        most = min(max_tokens, max(HEAD_PATCHES, n * n)) // (n * n)
        shapes += [(1 << power, (n, n)) for power in range(most.bit_length())]
    return sorted(shapes, key=lambda shape: shape[0] * shape[1][0] ** 2, reverse=True)
