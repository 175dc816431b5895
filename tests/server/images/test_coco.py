import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vimserve.server.images.coco import dataset

# numpy says so of what pycocotools decodes into.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept:DeprecationWarning"
)

LABELS = ["sky", "dog", "tree", "road"]
CLASS_MAPS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
)


@given(CLASS_MAPS)
def test_the_masks_are_the_class_map(classes):
    written = json.loads(dataset("a.png", classes, LABELS))
    seen = np.full_like(classes, 255)
    for one in written["annotations"]:
        mask = coco_mask.decode(one["segmentation"]) == 1
        assert (seen[mask] == 255).all()
        seen[mask] = one["category_id"]
        # As pycocotools writes it itself.
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert one["segmentation"]["counts"] == encoded["counts"].decode()
        assert one["area"] == mask.sum()
        rows, cols = np.nonzero(mask)
        left, top = int(cols.min()), int(rows.min())
        assert one["bbox"] == [left, top, int(cols.max()) + 1 - left, int(rows.max()) + 1 - top]
    assert (seen == classes).all()


def test_pycocotools_reads_the_dataset(tmp_path):
    classes = np.repeat(np.arange(3, dtype=np.uint8), 40).reshape(3, 40).repeat(10, axis=0)
    file = tmp_path / "dataset.json"
    file.write_text(dataset("a.png", classes, LABELS))
    coco = COCO(file)
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("a.png", 30, 40)
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == LABELS
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
    assert [one["category_id"] for one in annotations] == [0, 1, 2]
    for one in annotations:
        assert (coco.annToMask(one) == (classes == one["category_id"])).all()
