"""Renders class maps and found objects as COCO datasets, with run-length encoded masks."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths

Classes = np.ndarray[Any, np.dtype[np.uint8]]


def dataset(name: str, classes: Classes, labels: Sequence[str]) -> str:
    """What ``pycocotools.coco.COCO`` reads, with one image and an annotation for each class.

    Args:
        name: the image's.
        classes: uint8 ``[H, W]``.
        labels: the classes' names; a class's index is the id of its category.
    """
    height, width = classes.shape
    return _dataset(name, (height, width), _annotations(classes), labels)


def dataset_of(
    name: str, size: tuple[int, int], instances: Sequence[Instance], labels: Sequence[str]
) -> str:
    """The same with an annotation for each of ``instances``, which has its score too.

    The annotations are what ``COCO.loadRes`` takes. ``bbox`` is the box that was found, not that of
    the mask.

    Args:
        name: the image's.
        size: its (height, width).
        instances: what was found in it.
        labels: as ``dataset``.
    """
    annotations = (annotation(number, one) for number, one in enumerate(instances, start=1))
    return _dataset(name, size, annotations, labels)


def annotation(number: int, one: Instance) -> dict[str, Any]:
    """The annotation of a found object, by its number from 1 on."""
    return {
        "id": number,
        "image_id": 1,
        "category_id": one.index,
        "bbox": [*one.box[:2], *one.extent],
        "area": one.extent[0] * one.extent[1],
        "score": one.score,
        "iscrowd": 0,
    } | ({} if one.mask is None else _segmentation(one.mask))


def image_and_categories(
    name: str, size: tuple[int, int], labels: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """A dataset's members but its annotations.

    Args:
        name: the image's.
        size: its (height, width).
        labels: as ``dataset``.
    """
    height, width = size
    return {
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "categories": [{"id": i, "name": label} for i, label in enumerate(labels)],
    }


def run_length_encoded(mask: RunLengths) -> dict[str, Any]:
    """A mask as pycocotools writes it."""
    return {"size": list(mask.size), "counts": mask.compressed()}


def _segmentation(mask: RunLengths) -> dict[str, Any]:
    return {"segmentation": run_length_encoded(mask), "area": mask.area}


def _dataset(
    name: str,
    size: tuple[int, int],
    annotations: Iterable[Mapping[str, Any]],
    labels: Sequence[str],
) -> str:
    members = image_and_categories(name, size, labels)
    return json.dumps(members | {"annotations": list(annotations)})


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
