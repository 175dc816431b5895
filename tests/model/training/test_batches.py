import multiprocessing
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model.training.batches import Batches, Stage, normalize

STAGES = (Stage(0.5, (64, 96), (1, 3)), Stage(1.01, (256,), (1,)))


class Batch(NamedTuple):
    pixels: Tensor
    progress: float


def draw(rng: np.random.Generator, size: tuple[int, int], progress: float) -> Batch:
    return Batch(torch.from_numpy(rng.integers(256, size=(1, 3, *size), dtype=np.uint8)), progress)


def test_processes_draw_different_pictures_of_equal_sizes() -> None:
    progress = multiprocessing.Value("d", 0.0)
    first, second = (islice(Batches(draw, STAGES, progress, 0, rank), 10) for rank in (0, 1))
    shapes = set()
    for one, other in zip(first, second, strict=True):
        assert one.pixels.shape == other.pixels.shape
        assert not torch.equal(one.pixels, other.pixels)
        shapes.add(one.pixels.shape)
    assert len(shapes) > 1


def test_progress_decides_the_stage() -> None:
    progress = multiprocessing.Value("d", 0.0)
    batches = iter(Batches(draw, STAGES, progress, seed=0))
    early = next(batches)
    progress.value = 0.5
    late = next(batches)
    assert max(early.pixels.shape) < 160 < max(late.pixels.shape)
    assert (early.progress, late.progress) == (0.0, 0.5)  # type: ignore[attr-defined]


def test_pixels_are_normalised() -> None:
    pixels = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    assert_close("the mean", normalize(pixels), torch.zeros(1, 3, 1, 1), atol=0.02)
