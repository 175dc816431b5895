"""Scenes of few to many icons, small and large, before a procedural background."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vimserve.model.demo.backgrounds import background
from vimserve.model.demo.batches import difficulty_at
from vimserve.model.demo.icons import LABELS, Icon
from vimserve.model.demo.scenes import (
    degraded,
    distract,
    over,
    placement_of_side,
    recolored,
    window,
)
from vimserve.model.training.batches import PATCH, Stage
from vimserve.model.training.proposals import Objects

CLASSES = LABELS
MOST_OBJECTS, LARGEST_PICTURE = 12, 1248
SMALLEST_SIDE, LARGEST_SHARE = 16, 0.9
LEAST_PIXELS, LEAST_SHARE = 40, 0.5
EASIEST = 0.5  # the backbone that training starts from knows hard scenes
STAGES = (
    Stage(0.10, (128, 192, 256), (1, 1, 1)),
    Stage(0.45, (128, 192, 256, 320, 384, 512), (2, 3, 5, 4, 3, 2)),
    Stage(1.01, (128, 192, 256, 384, 512, 768, 1024, 1248), (1, 2, 5, 5, 4, 3, 2, 2)),
)


class Scene(NamedTuple):
    """A picture and what it shows.

    Attributes:
        image: RGB.
        objects: ``[H, W]`` uint8, at each pixel the number of the object that is seen there, the
            first 1, and 0 where none is.
        labels: of each object.
    """

    image: Image.Image
    objects: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


class Batch(NamedTuple):
    """Scenes of one size.

    Attributes:
        pixels: ``[N, 3, H, W]`` uint8.
        objects: ``[N, H, W]`` uint8, as a scene's.
        labels: of the objects of each scene.
    """

    pixels: Tensor
    objects: Tensor
    labels: list[Tensor]


def make_scene(
    rng: np.random.Generator,
    icons: Sequence[Sequence[Icon]],
    size: tuple[int, int],
    difficulty: float = 1.0,
    smallest: float = SMALLEST_SIDE,
    largest: float = LARGEST_SHARE,
) -> Scene:
    """A scene of ``size`` (height, width) with at least one object; ``rng`` decides everything.

    Large pictures have more objects, whose longer sides are spread evenly on a logarithmic scale,
    from ``smallest`` in pixels to ``largest`` as a share of the picture's shorter side, which is
    less the more they are. An object covers those before it, unless it would hide most of one: then
    it is left out. A pixel belongs to the last object that hides at least half of it.
    """
    canvas = Image.fromarray(background(rng, size).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.3 * difficulty:
        distract(rng, canvas, largest=0.25)
    objects = np.zeros(size, np.uint8)
    labels: list[int] = []
    whole = seen = np.zeros(0, np.int64)  # pixels of each object
    most = round(MOST_OBJECTS * (size[0] * size[1] / LARGEST_PICTURE**2) ** 0.3)
    tries = int(rng.integers(1, most + 1))
    most_side = min(largest, LARGEST_SHARE * tries**-0.4) * min(size)
    while tries > 0 or not labels:
        tries -= 1
        label = int(rng.integers(len(icons)))
        icon = icons[label][int(rng.integers(len(icons[label])))]
        side = float(np.exp(rng.uniform(np.log(min(smallest, most_side)), np.log(most_side))))
        box, layer = window(icon, placement_of_side(rng, icon, size, side, difficulty), size)
        covered = np.asarray(layer.getchannel("a")) > 127
        part = objects[box[1] : box[3], box[0] : box[2]]
        left = seen - np.bincount(part[covered], minlength=len(labels) + 1)[1:]
        hides = (left < np.maximum(LEAST_SHARE * whole, LEAST_PIXELS)).any()
        if hides or covered.sum() < LEAST_PIXELS:
            continue
        labels.append(label)
        part[covered] = len(labels)
        whole, seen = (np.append(pixels, covered.sum()) for pixels in (whole, left))
        if rng.random() < 0.7 * difficulty:
            layer = recolored(rng, layer)
        canvas.paste(over(canvas.crop(box), layer), box[:2])
    picture = degraded(rng, canvas, difficulty)
    return Scene(picture, objects, np.array(labels))


def draw_batch(
    icons: Sequence[Sequence[Icon]],
    tokens: int,
    rng: np.random.Generator,
    size: tuple[int, int],
    progress: float,
) -> Batch:
    """A batch of about ``tokens`` patches."""
    count = max(1, round(tokens / (size[0] * size[1] // PATCH**2)))
    difficulty = max(EASIEST, difficulty_at(progress))
    scenes = [make_scene(rng, icons, size, difficulty) for _ in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in scenes]))
    objects = torch.from_numpy(np.stack([scene.objects for scene in scenes]))
    labels = [torch.from_numpy(scene.labels) for scene in scenes]
    return Batch(pixels.permute(0, 3, 1, 2), objects, labels)


def to_find(objects: Tensor, labels: Tensor) -> Objects:
    """The tight boxes and the masks of a scene's objects ``[H, W]``."""
    masks = objects == torch.arange(1, len(labels) + 1, dtype=torch.uint8)[:, None, None]
    boxes = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        boxes.append(torch.cat(edges).float())
    return Objects(torch.stack(boxes), labels, masks)
