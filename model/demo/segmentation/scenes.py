"""Scenes of several icons before a procedural background, with the class of every pixel."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vimserve.model.demo.backgrounds import background
from vimserve.model.demo.batches import difficulty_at
from vimserve.model.demo.icons import LABELS, Icon
from vimserve.model.demo.scenes import degraded, distract, over, place, placement_of_side, recolored
from vimserve.model.training.batches import PATCH, Stage

BACKGROUND = "background"
CLASSES = (BACKGROUND, *LABELS)
MOST_OBJECTS = 5
STAGES = (
    Stage(0.10, (128, 192, 256), (1, 1, 1)),
    Stage(0.25, (128, 192, 256, 320, 384, 512), (2, 3, 4, 3, 3, 3)),
    Stage(1.01, (128, 192, 256, 384, 512, 768, 1024, 1248), (1, 2, 4, 4, 4, 3, 3, 3)),
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


def make_scene(
    rng: np.random.Generator,
    icons: Sequence[Sequence[Icon]],
    size: tuple[int, int],
    difficulty: float = 1.0,
) -> Scene:
    """A scene of ``size`` (height, width) with one to five objects; ``rng`` decides everything.

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
        side = rng.uniform(0.65 - 0.4 * difficulty, 0.95) * min(size) * objects**-0.5
        placement = placement_of_side(rng, icon, size, side, difficulty)
        layer = place(icon, placement, size)
        classes[np.asarray(layer.getchannel("a")) > 127] = 1 + label
        if rng.random() < 0.7 * difficulty:
            layer = recolored(rng, layer)
        canvas = over(canvas, layer)
    return Scene(degraded(rng, canvas, difficulty), classes)


def draw_batch(
    icons: Sequence[Sequence[Icon]],
    tokens: int,
    rng: np.random.Generator,
    size: tuple[int, int],
    progress: float,
) -> Batch:
    """A batch of about ``tokens`` patches, of at least two scenes: batch norms need a deviation."""
    count = max(2, round(tokens / (size[0] * size[1] // PATCH**2)))
    scenes = [make_scene(rng, icons, size, difficulty_at(progress)) for _ in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
    classes = torch.from_numpy(np.stack([scene.classes for scene in scenes]))
    return Batch(pixels.permute(0, 3, 1, 2), classes)
