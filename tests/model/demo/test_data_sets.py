"""Scenes in the forms that ``vimserve evaluate`` reads."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vimserve.model.demo.data_sets import write_labelled, write_masks, write_objects
from vimserve.model.demo.icons import LABELS, Icon, cut_out

SIDE, COUNT = 96, 3


@pytest.fixture(scope="module")
def icons():
    """A disc for each class, in a colour of its own."""
    made = []
    for label in range(len(LABELS)):
        picture = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(picture).ellipse((4, 4, 60, 60), (12 * label, 255 - 12 * label, 90, 255))
        made.append([Icon(label, "nobody", "disc", cut_out(picture))])
    return made


def test_a_folder_for_each_class(icons, tmp_path):
    write_labelled(tmp_path, icons, SIDE, COUNT)
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.jpg"))
    assert files == ["airplane/0.jpg", "apple/1.jpg", "banana/2.jpg"]
    with Image.open(tmp_path / files[0]) as image:
        assert image.size == (SIDE, SIDE)


def test_masks(icons, tmp_path):
    write_masks(tmp_path, icons, SIDE, COUNT)
    for index in range(COUNT):
        with Image.open(tmp_path / "masks" / f"{index}.png") as mask:
            classes = np.asarray(mask)
        assert classes.shape == (SIDE, SIDE)
        assert 0 < classes.max() <= len(LABELS)
        assert (tmp_path / "images" / f"{index}.jpg").is_file()


def test_objects(icons, tmp_path, capsys):
    write_objects(tmp_path, icons, SIDE, COUNT)
    content = json.loads((tmp_path / "objects.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [one["name"] for one in content["categories"]] == list(LABELS)
    coco = COCO(str(tmp_path / "objects.json"))
    capsys.readouterr()
    assert content["annotations"]
    for one in content["annotations"]:
        mask = coco.annToRLE(one)
        assert coco_mask.toBbox(mask).tolist() == one["bbox"]
        assert coco_mask.area(mask) == one["area"] > 0
