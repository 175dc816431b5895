"""Endless training batches, drawn by a worker process while the network computes."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from vimserve.model.config import IMAGENET_MEAN, IMAGENET_STD
from vimserve.model.demo.icons import LABELS, Icon
from vimserve.model.demo.scenes import make_scene

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

B = TypeVar("B")
# (share of the training time until which it holds, sides in pixels, their relative frequencies)
Stage = tuple[float, tuple[int, ...], tuple[float, ...]]
STAGES: tuple[Stage, ...] = (
    (0.30, (96, 112, 128), (3, 1, 1)),
    (0.60, (96, 128, 160, 224, 256, 320, 384), (4, 4, 3, 2, 2, 1, 1)),
    (1.01, (96, 128, 192, 256, 384, 512, 768, 1024, 1248), (2, 3, 3, 4, 3, 3, 2, 1, 2)),
)
HARD_FROM = 0.7
PATCH = 16


class Batch(NamedTuple):
    """Pictures of one size.

    Attributes:
        pixels: ``[N, 3, H, W]`` uint8.
        labels: ``[N]``.
        coverage: ``[N, T]``, the share of every patch that the object covers.
    """

    pixels: Tensor
    labels: Tensor
    coverage: Tensor


class Batches(IterableDataset[B]):
    """Batches without end.

    Args:
        draw: makes a batch of pictures of a size (height, width) and a difficulty from 0 to 1.
        stages: the sizes.
        progress: shared share of the training time that is over, which decides both.
        seed: of everything random.
        rank: of the process that trains on these; all processes draw equal sizes at a time, so
            that none waits for another.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, tuple[int, int], float], B],
        stages: Sequence[Stage],
        progress: "Synchronized[float]",
        seed: int,
        rank: int = 0,
    ) -> None:
        self._draw, self._stages, self._progress = draw, stages, progress
        self._seed, self._rank = seed, rank

    def __iter__(self) -> Iterator[B]:
        worker = get_worker_info()
        worker_id = worker.id if worker else 0
        rng = np.random.default_rng((self._seed, worker_id, self._rank))
        sizes = np.random.default_rng((self._seed, worker_id))
        while True:
            size = random_size(sizes, self._progress.value, self._stages)
            difficulty = min(1.0, self._progress.value / HARD_FROM)
            yield self._draw(rng, size, difficulty)


def draw_batch(
    icons: Sequence[Sequence[Icon]],
    budget_tokens: int,
    rng: np.random.Generator,
    size: tuple[int, int],
    difficulty: float,
) -> Batch:
    """A batch of so many patches; classes are equally frequent whatever their ``icons``."""
    height, width = size
    tokens = height * width // PATCH**2
    labels = rng.integers(len(LABELS), size=max(1, round(budget_tokens / tokens)))
    scenes = [make_scene(rng, icons[n], size, difficulty) for n in labels]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
    masks = torch.from_numpy(np.stack([scene.mask for scene in scenes]))
    tiles = masks.view(-1, height // PATCH, PATCH, width // PATCH, PATCH)
    coverage = tiles.float().mean((2, 4)).flatten(1)
    return Batch(pixels.permute(0, 3, 1, 2), torch.from_numpy(labels), coverage)


def random_size(
    rng: np.random.Generator, progress: float, stages: Sequence[Stage] = STAGES
) -> tuple[int, int]:
    """Height and width for a batch at this point of the training."""
    sides, weights = next((stage[1], stage[2]) for stage in stages if progress < stage[0])
    side = int(rng.choice(sides, p=np.array(weights) / sum(weights)))
    ratio = 1.0 if rng.random() < 0.65 else rng.uniform(0.5, 2) ** 0.5
    height, width = (max(4, round(n / PATCH)) * PATCH for n in (side * ratio, side / ratio))
    return height, width


def normalize(pixels: Tensor) -> Tensor:
    """The uint8 images as the network takes them, float32."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels / 255 - mean) / std
