"""Scenes show the objects that they say they show, small ones in large pictures among them."""

import multiprocessing
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vimserve.model.demo.detection.scenes import (
    CLASSES,
    LEAST_PIXELS,
    MOST_OBJECTS,
    STAGES,
    Batch,
    draw_batch,
    make_scene,
    to_find,
)
from vimserve.model.demo.detection.train import center_classes
from vimserve.model.demo.icons import LABELS, Icon, by_class, cut_out
from vimserve.model.demo.scenes import Placement, place, window
from vimserve.model.training.batches import Batches


def icon(label: int, color: str) -> Icon:
    picture = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(picture).rectangle((50, 20, 150, 180), fill=color)
    return Icon(label, "drawn", color, cut_out(picture))


ICONS = by_class([icon(label, color) for label in range(len(LABELS)) for color in ("red", "blue")])
RED = by_class([icon(label, "red") for label in range(len(LABELS))])


def test_the_classes_are_the_labels() -> None:
    assert CLASSES == LABELS


@pytest.mark.parametrize("size", [(128, 128), (96, 320)])
def test_a_seed_decides_a_scene(size: tuple[int, int]) -> None:
    first, again, other = (make_scene(np.random.default_rng(n), ICONS, size) for n in (1, 1, 2))
    assert first.image.size == (size[1], size[0])
    assert first.objects.shape == size
    assert first.image.tobytes() == again.image.tobytes()
    assert (first.objects == again.objects).all()
    assert first.labels.tolist() == again.labels.tolist()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("side", [128, 1248])
def test_every_object_is_seen(side: int) -> None:
    counts, sides, labels = set(), [], set()
    for seed in range(20):
        scene = make_scene(np.random.default_rng(seed), ICONS, (side, side))
        pixels = np.bincount(scene.objects.reshape(-1))
        assert len(pixels) == 1 + len(scene.labels)
        assert (pixels[1:] >= LEAST_PIXELS).all()
        counts.add(len(scene.labels))
        labels |= set(scene.labels.tolist())
        found = to_find(torch.from_numpy(scene.objects), torch.from_numpy(scene.labels))
        sides += (found.boxes[:, 2:] - found.boxes[:, :2]).amax(1).tolist()
    assert max(counts) <= (MOST_OBJECTS if side == 1248 else 3)
    assert len(counts) > 2
    assert min(sides) < 32
    assert max(sides) > side / 3
    assert len(labels) > 10


def test_an_object_is_where_it_is_said_to_be() -> None:
    for seed in range(6):
        scene = make_scene(np.random.default_rng(seed), RED, (192, 192), difficulty=0.0)
        inside = np.asarray(scene.image)[scene.objects > 0]
        np.testing.assert_allclose(inside.mean(0), [255, 0, 0], atol=16)


def test_boxes_are_tight_and_masks_are_what_is_seen() -> None:
    objects = torch.zeros(20, 30, dtype=torch.uint8)
    objects[2:12, 3:23] = 1
    objects[10:20, 20:30] = 2
    found = to_find(objects, torch.tensor([5, 0]))
    assert found.boxes.tolist() == [[3, 2, 23, 12], [20, 10, 30, 20]]
    assert found.classes.tolist() == [5, 0]
    assert found.masks.flatten(1).sum(1).tolist() == [200 - 6, 100]


@pytest.mark.parametrize("degrees", [0, 45, 170])
def test_the_window_has_all_of_an_icon(degrees: float) -> None:
    placement = Placement((60, 40), 70, degrees, stretch=1.2, shear=0.15)
    (left, top, right, bottom), layer = window(ICONS[0][0], placement, (100, 160))
    whole = place(ICONS[0][0], placement, (100, 160))
    assert whole.crop((left, top, right, bottom)).tobytes() == layer.tobytes()
    outside = np.array(whole)
    outside[top:bottom, left:right] = 0
    assert not outside.any()


def test_batches_are_of_one_size() -> None:
    progress = multiprocessing.Value("d", 0.2)
    draw = partial(draw_batch, ICONS, 64)
    for batch in islice(Batches(draw, STAGES, progress, seed=0), 4):
        assert isinstance(batch, Batch)
        count, _, height, width = batch.pixels.shape
        assert batch.objects.shape == (count, height, width)
        assert len(batch.labels) == count
        assert batch.pixels.dtype == batch.objects.dtype == torch.uint8


def test_classes_in_the_middle_of_squares() -> None:
    objects = torch.zeros(1, 8, 14, dtype=torch.uint8)
    objects[0, :4, :4] = 1
    objects[0, 5:, 7:] = 2
    batch = Batch(torch.empty(0), objects, [torch.tensor([4, 9])])
    assert center_classes(batch, 4).tolist() == [[[5, 0, 0], [0, 0, 10]]]
