"""Renders a class map as a COCO dataset: one run-length encoded annotation for each class."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Classes = np.ndarray[Any, np.dtype[np.uint8]]


def dataset(name: str, classes: Classes, labels: Sequence[str]) -> str:
    """What ``pycocotools.coco.COCO`` reads, with one image.

    Args:
        name: the image's.
        classes: uint8 ``[H, W]``.
        labels: the classes' names; a class's index is the id of its category.
    """
    height, width = classes.shape
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
            "annotations": list(_annotations(classes)),
            "categories": [{"id": i, "name": label} for i, label in enumerate(labels)],
        }
    )


def _annotations(classes: Classes) -> Iterator[dict[str, Any]]:
    height, width = classes.shape
    # COCO counts down the columns. All classes come from one list of runs of equal pixels.
    pixels = classes.T.reshape(-1)
    bounds = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.stack([np.append(0, bounds), np.append(bounds, pixels.size)], axis=1)
    of_run = pixels[runs[:, 0]]
    # COCO's own evaluation takes an id of 0 for "no match".
    for number, i in enumerate(np.unique(of_run).tolist(), start=1):
        counts = np.diff(runs[of_run == i].reshape(-1), prepend=0, append=pixels.size)
        written = counts if counts[-1] else counts[:-1]
        mask = coco_mask.frPyObjects(
            {"size": [height, width], "counts": written.tolist()}, height, width
        )
        yield {
            "id": number,
            "image_id": 1,
            "category_id": i,
            "segmentation": {"size": [height, width], "counts": mask["counts"].decode()},
            "area": int(coco_mask.area(mask)),
            "bbox": coco_mask.toBbox(mask).tolist(),
            "iscrowd": 0,
        }
