"""The average precision of drawn pictures; pycocotools judges, on pictures that are there twice."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vimserve.server.commands.evaluate.precision import Redrawn, by_class, evaluated, stats

PICTURES, CATEGORIES = 12, 3


def rectangle(box):
    left, top, width, height = (int(edge) for edge in box)
    pixels = np.zeros((96, 96), np.uint8, order="F")
    pixels[top : top + height, left : left + width] = 1
    mask = coco_mask.encode(pixels)
    return {"size": [96, 96], "counts": mask["counts"].decode()}


def made_up(seed):
    """Objects, and detections that are near some of them."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(1, PICTURES + 1):
        for _ in range(rng.integers(0, 5)):
            category = int(rng.integers(1, CATEGORIES + 1))
            box = [*rng.integers(0, 40, 2).tolist(), *rng.integers(8, 50, 2).tolist()]
            crowd = int(rng.random() < 0.1)
            area = box[2] * box[3]
            common = {"image_id": image, "category_id": category}
            objects.append({**common, "bbox": box, "area": area, "iscrowd": crowd,
                            "segmentation": rectangle(box)})  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                near = (np.array(box) + rng.integers(-3, 4, 4)).clip(1)
                found.append({**common, "bbox": near.tolist(), "score": float(rng.random()),
                              "segmentation": rectangle(near)})  # fmt: skip
    return dataset(range(1, PICTURES + 1), objects), found


def dataset(images, objects):
    return {
        "images": [{"id": one, "height": 96, "width": 96} for one in images],
        "categories": [{"id": one, "name": str(one)} for one in range(1, CATEGORIES + 1)],
        "annotations": objects,
    }


def repeated(truth, found, drawn):
    """The same with each picture as often as it was drawn."""
    copies = [(old, copy) for old, times in enumerate(drawn, start=1) for copy in range(times)]
    objects, detections = [], []
    for new, (old, _) in enumerate(copies, start=1):
        objects += [one | {"image_id": new} for one in truth["annotations"]
                    if one["image_id"] == old]  # fmt: skip
        detections += [one | {"image_id": new} for one in found if one["image_id"] == old]
    return dataset(range(1, len(copies) + 1), objects), detections


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_every_picture_once(kind, seed):
    truth, found = made_up(seed)
    rating = evaluated(truth, found, kind)
    ours = Redrawn(rating)(np.ones(PICTURES, np.int64))
    np.testing.assert_allclose(ours, stats(rating)[:3], atol=1e-12)
    assert 0 < ours[0] < ours[1] < 1


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_pictures_that_are_drawn_again(kind, seed):
    truth, found = made_up(seed)
    drawn = np.bincount(np.random.default_rng(seed).integers(PICTURES, size=PICTURES),
                        minlength=PICTURES)  # fmt: skip
    there_twice, found_twice = repeated(truth, found, drawn)
    judge = evaluated(there_twice, found_twice, kind)
    ours = Redrawn(evaluated(truth, found, kind))(drawn)
    np.testing.assert_allclose(ours, stats(judge)[:3], atol=1e-9)


def test_nothing_was_found():
    truth, _ = made_up(0)
    rating = evaluated(truth, [], "bbox")
    assert stats(rating)[:3] == [0, 0, 0]
    assert Redrawn(rating)(np.ones(PICTURES, np.int64)).tolist() == [0, 0, 0]


def test_there_is_nothing_to_find():
    rating = evaluated(dataset(range(1, 3), []), [], "bbox")
    assert np.isnan(stats(rating)).all()
    assert np.isnan(Redrawn(rating)(np.ones(2, np.int64))).all()
    assert by_class(rating) == {}


def test_the_truth_is_not_changed_and_any_number_of_an_object_will_do():
    truth, found = made_up(1)
    objects = [one | {"id": number} for number, one in enumerate(truth["annotations"])]
    before = repr(objects)
    numbered = evaluated({**truth, "annotations": objects}, found, "bbox")
    assert stats(numbered) == stats(evaluated(truth, found, "bbox"))
    assert repr(objects) == before
