"""Scenes are decided by their seed, and their masks and labels belong to what they show."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vimserve.model.demo.batches import STAGES
from vimserve.model.demo.icons import (
    HELD_OUT_SETS,
    LABELS,
    TRAINING_SETS,
    Icon,
    cut_out,
    on_paper,
)
from vimserve.model.demo.scenes import Placement, make_scene, place
from vimserve.model.training.batches import PATCH, random_size


def icon(label: int, color: str, shape: str) -> Icon:
    picture = Image.new("RGBA", (400, 400))
    draw = ImageDraw.Draw(picture)
    getattr(draw, shape)((100, 50, 300, 350), fill=color)
    return Icon(label, "drawn", shape, cut_out(picture))


ICONS = [icon(3, "red", "ellipse"), icon(7, "blue", "rectangle")]


@pytest.mark.parametrize("size", [(96, 96), (160, 96), (64, 320), (512, 512)])
def test_a_seed_decides_everything(size: tuple[int, int]) -> None:
    first, second, other = (make_scene(np.random.default_rng(s), ICONS, size) for s in (1, 1, 2))
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.mask == second.mask).all()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("size", [(96, 96), (160, 96), (64, 320)])
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_mask_and_label_fit_the_picture(size: tuple[int, int], difficulty: float) -> None:
    rng = np.random.default_rng(0)
    labels = set()
    for _ in range(60):
        scene = make_scene(rng, ICONS, size, difficulty)
        assert scene.image.mode == "RGB"
        assert scene.image.size == (size[1], size[0])
        assert scene.mask.shape == size
        assert scene.mask.dtype == bool
        # Even the smallest object, of 40 pixels and turned, covers some.
        assert 400 < scene.mask.sum() < size[0] * size[1]
        labels.add(scene.label)
    assert labels == {3, 7}


def test_an_icon_lands_where_it_is_placed() -> None:
    layer = place(ICONS[1], Placement(center=(40, 90), side=60), (100, 160))
    visible = np.asarray(layer.getchannel("a")) > 127
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    assert abs(rows[0] - 10) <= 1
    assert abs(rows[-1] - 69) <= 1
    assert abs(columns[0] - 70) <= 1
    assert abs(columns[-1] - 109) <= 1
    colors = np.asarray(layer)[visible]
    assert (colors[:, 2] > 120).all()
    assert (colors[:, 0] == 0).all()


def test_the_mask_marks_the_object() -> None:
    scene = make_scene(np.random.default_rng(5), ICONS[:1], (128, 128), difficulty=0.0)
    inside = np.asarray(scene.image)[scene.mask].mean(0)
    np.testing.assert_allclose(inside, [255, 0, 0], atol=12)


def test_sizes_are_whole_patches_and_reach_1248() -> None:
    rng = np.random.default_rng(0)
    sizes = [random_size(rng, progress, STAGES) for progress in np.linspace(0, 1, 4000)]
    assert all(side % PATCH == 0 for size in sizes for side in size)
    assert (1248, 1248) in sizes
    assert any(height != width for height, width in sizes)
    assert STAGES[-1][0] > 1


def test_the_held_out_vendor_is_in_no_training_set() -> None:
    assert not HELD_OUT_SETS.keys() & TRAINING_SETS.keys()
    assert len(LABELS) == 20


def test_the_inside_of_a_line_drawing_is_paper() -> None:
    picture = Image.new("RGBA", (200, 160))
    ImageDraw.Draw(picture).ellipse((10, 10, 190, 150), outline="black", width=8)
    filled = on_paper(cut_out(picture)).convert("RGBA")
    assert filled.getpixel((0, 0)) == (0, 0, 0, 0)
    assert filled.getpixel((90, 70)) == (255, 255, 255, 255)
    assert filled.getpixel((90, 3)) == (0, 0, 0, 255)
