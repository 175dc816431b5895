"""Scenes of several icons before a procedural background, with the class of every pixel."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from model.demo.backgrounds import background
from model.demo.batches import HARD_FROM, PATCH, Stage, random_size
from model.demo.icons import LABELS, Icon
from model.demo.scenes import degraded, distract, over, place, random_placement, recolored

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

BACKGROUND = "background"
CLASSES = (BACKGROUND, *LABELS)
MOST_OBJECTS = 5
STAGES: tuple[Stage, ...] = (
    (0.10, (128, 192, 256), (1, 1, 1)),
    (0.25, (128, 192, 256, 320, 384, 512), (2, 3, 4, 3, 3, 3)),
    (1.01, (128, 192, 256, 384, 512, 768, 1024, 1248), (1, 2, 4, 4, 4, 3, 3, 3)),
)


class Scene(NamedTuple):
    """A picture and what it shows.

    Attributes:
        image: RGB.
        classes: ``[H, W]`` uint8, indices into ``CLASSES``.
    """

    image: Image.Image
    classes: np.ndarray[Any, np.dtype[np.uint8]]


class Batch(NamedTuple):
    """Scenes of one size: pixels ``[N, 3, H, W]`` and classes ``[N, H, W]``, both uint8."""

    pixels: Tensor
    classes: Tensor


def by_class(icons: Sequence[Icon]) -> list[list[Icon]]:
    """The icons of each label."""
    return [[icon for icon in icons if icon.label == label] for label in range(len(LABELS))]


def make_scene(
    rng: np.random.Generator,
    icons: Sequence[Sequence[Icon]],
    size: tuple[int, int],
    difficulty: float = 1.0,
) -> Scene:
    """A scene of ``size`` (height, width) with one to five objects; a seed decides everything.

    Classes are equally frequent whatever their numbers of ``icons``. An object covers the ones
    drawn before it; a pixel belongs to the last object that hides at least half of it.
    """
    canvas = Image.fromarray(background(rng, size).clip(0, 255).astype(np.uint8))
    classes = np.zeros(size, np.uint8)
    if rng.random() < 0.3 * difficulty:
        distract(rng, canvas, largest=0.25)
    objects = int(rng.integers(1, MOST_OBJECTS + 1))
    for label in rng.integers(len(icons), size=objects):
        icon = icons[label][int(rng.integers(len(icons[label])))]
        placement = random_placement(rng, icon, size, difficulty, scale=objects**-0.5)
        layer = place(icon, placement, size)
        classes[np.asarray(layer.getchannel("a")) > 127] = 1 + label
        if rng.random() < 0.7 * difficulty:
            layer = recolored(rng, layer)
        canvas = over(canvas, layer)
    return Scene(degraded(rng, canvas, difficulty), classes)


class Batches(IterableDataset[Batch]):
    """Batches without end, of at least two scenes: batch norms need a deviation.

    Arguments are those of ``model.demo.batches.Batches``.
    """

    def __init__(
        self,
        icons: Sequence[Icon],
        progress: "Synchronized[float]",
        budget_tokens: int,
        seed: int,
        rank: int = 0,
    ) -> None:
        self._icons, self._progress, self._budget = by_class(icons), progress, budget_tokens
        self._seed, self._rank = seed, rank

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        worker_id = worker.id if worker else 0
        rng = np.random.default_rng((self._seed, worker_id, self._rank))
        sizes = np.random.default_rng((self._seed, worker_id))
        while True:
            size = random_size(sizes, self._progress.value, STAGES)
            count = max(2, round(self._budget / (size[0] * size[1] // PATCH**2)))
            difficulty = min(1.0, self._progress.value / HARD_FROM)
            scenes = [make_scene(rng, self._icons, size, difficulty) for _ in range(count)]
            pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
            classes = torch.from_numpy(np.stack([scene.classes for scene in scenes]))
            yield Batch(pixels.permute(0, 3, 1, 2), classes)
