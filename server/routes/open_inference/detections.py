"""Output tensors of a detector.

Images have different numbers of detections. Each has a row as long as that of the image with the
most; ``num_detections`` tells how many are some, and what is behind them is filling.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vimserve.model.spec import ModelSpec
from vimserve.server.images.coco import run_length_encoded
from vimserve.server.images.instance import Instance
from vimserve.server.tasks.detect import Detected

Array = np.ndarray[Any, Any]
NO_CLASS = -1


def count(_spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """Int32 ``[n]``, the number of detections in each image."""
    return np.array([len(result.instances) for result in results], np.int32)


def boxes(_spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """Float32 ``[n, most, 4]``: left, top, right and bottom edge in pixels of the upright image."""
    return _padded(results, lambda one: one.box, np.zeros(4, np.float32))


def scores(_spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """Float32 ``[n, most]``, best first."""
    return _padded(results, lambda one: one.score, np.zeros((), np.float32))


def classes(_spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """Int32 ``[n, most]``, counted from 0; -1 is none."""
    return _padded(results, lambda one: one.index, np.array(NO_CLASS, np.int32))


def labels(spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """The classes' names, ``[n, most]``."""
    return _padded(results, lambda one: spec.labels[one.index], np.array("", object))


def masks(_spec: ModelSpec, results: Sequence[Detected]) -> Array:
    """Which pixels of the upright image are an object's, ``[n, most]``.

    Each is a text, the JSON that pycocotools' ``decode`` takes: ``{"size": [height, width],
    "counts": "…"}``. Unlike pixels, their size is bounded by the outlines alone, and images of
    several sizes fit into a tensor.
    """
    return _padded(results, _run_lengths, np.array("", object))


def _run_lengths(one: Instance) -> str:
    return "" if one.mask is None else json.dumps(run_length_encoded(one.mask))


def _padded(results: Sequence[Detected], value: Callable[[Instance], Any], filling: Array) -> Array:
    most = max(len(result.instances) for result in results)
    padded = np.empty((len(results), most, *filling.shape), filling.dtype)
    padded[...] = filling
    for row, result in zip(padded, results, strict=True):
        for i, one in enumerate(result.instances):
            row[i] = value(one)
    return padded
