"""Endless training batches, drawn by a worker process while the network computes."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from vimserve.model.config import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PATCH = 16


class Batch(Protocol):
    """Pictures of one size, and what a criterion wants to know of them."""

    @property
    def pixels(self) -> Tensor:
        """``[N, 3, H, W]`` uint8."""


# Of a random generator, a size (height, width) and the share of the training time that is over.
Draw = Callable[[np.random.Generator, tuple[int, int], float], Batch]


class Stage(NamedTuple):
    """How large pictures are for a while.

    Attributes:
        until: share of the training time.
        sides: in pixels.
        frequencies: how often each of the sides comes, relative to the others.
    """

    until: float
    sides: tuple[int, ...]
    frequencies: tuple[float, ...]


class Batches(IterableDataset[Batch]):
    """Batches without end.

    Args:
        draw: makes a batch.
        stages: the sizes.
        progress: shared share of the training time that is over.
        seed: of everything random.
        rank: of the process that trains on these; all processes draw equal sizes at a time, so
            that none waits for another.
    """

    def __init__(
        self,
        draw: Draw,
        stages: Sequence[Stage],
        progress: "Synchronized[float]",
        seed: int,
        rank: int = 0,
    ) -> None:
        self._draw, self._stages, self._progress = draw, stages, progress
        self._seed, self._rank = seed, rank

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        worker_id = worker.id if worker else 0
        rng = np.random.default_rng((self._seed, worker_id, self._rank))
        sizes = np.random.default_rng((self._seed, worker_id))
        while True:
            progress = self._progress.value
            yield self._draw(rng, random_size(sizes, progress, self._stages), progress)


def random_size(
    rng: np.random.Generator, progress: float, stages: Sequence[Stage]
) -> tuple[int, int]:
    """Height and width, in whole patches, for a batch at this point of the training."""
    _, sides, frequencies = next(stage for stage in stages if progress < stage.until)
    side = int(rng.choice(sides, p=np.array(frequencies) / sum(frequencies)))
    ratio = 1.0 if rng.random() < 0.65 else rng.uniform(0.5, 2) ** 0.5
    height, width = (max(4, round(n / PATCH)) * PATCH for n in (side * ratio, side / ratio))
    return height, width


def normalize(pixels: Tensor) -> Tensor:
    """The uint8 images as the network takes them, float32."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std
