"""The task object-detection, and image-segmentation of single objects by the same models."""

import base64
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.instance import Instance
from vimserve.server.images.mask import to_grey_png
from vimserve.server.images.prepare import Measured
from vimserve.server.images.run_lengths import RunLengths
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.hugging_face.parameters import Parameters, read_parameters
from vimserve.server.routes.hugging_face.segmentation import LabelledMask
from vimserve.server.tasks.detect import Detect, Detected, has_masks
from vimserve.server.tasks.task import Plan

TAG = "object-detection"
TASK = Detect()
INSTANCE = "instance"  # the subtask of an image segmentation in which each object has a mask
# Every mask is a picture in the image's size: a hundred of 1248x1248 pixels are fewer than these,
# which take a processor a second or two.
MOST_PIXELS = 2**28


class DetectionParameters(Parameters):
    """What Hugging Face names for this task."""

    threshold: float | None = Field(default=None, ge=0, le=1)
    subtask: str | None = None


class Corners(BaseModel):
    """Where an object is, in pixels of the upright image, from its upper left corner."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class DetectedObject(BaseModel):
    """An object that the image has, and where."""

    label: str
    score: float
    box: Corners


Render = Callable[[Measured, Detected], list[DetectedObject] | list[LabelledMask]]


def prepare(
    spec: ModelSpec, given: Mapping[str, Any], max_resolution: int
) -> tuple[Plan[Detected], Render]:
    """How the model answers with these parameters, and what renders its result.

    Raises:
        MalformedRequest: for another subtask, among others.
        BadRequest: it cannot.
    """
    without = ("score_threshold", "masks")
    wanted, query = read_parameters(given, DetectionParameters, TASK, without)
    if wanted.subtask is not None:
        _check_subtask(spec, wanted.subtask)
    chosen = {"score_threshold": wanted.threshold, "masks": "rle" if wanted.subtask else "none"}
    plan = TASK.plan(spec, query.model_copy(update=chosen), max_resolution)
    return plan, partial(_masks if wanted.subtask else _boxes, spec)


def _check_subtask(spec: ModelSpec, subtask: str) -> None:
    if subtask == INSTANCE and has_masks(spec):
        return
    able = f"segments single objects: subtask must be {INSTANCE!r}, or left out for their boxes"
    if not has_masks(spec):
        able = "finds boxes only: it has no mask head, so subtask must be left out"
    raise MalformedRequest(
        f"model {spec.name!r} {able}, not {subtask!r}",
        parameter="subtask",
        limit=INSTANCE if has_masks(spec) else None,
        value=subtask,
    )


def _boxes(spec: ModelSpec, _measured: Measured, result: Detected) -> list[DetectedObject]:
    return [
        DetectedObject(label=spec.labels[one.index], score=one.score, box=_corners(one))
        for one in result.instances
    ]


def _corners(one: Instance) -> Corners:
    left, top, right, bottom = (round(edge) for edge in one.box)
    return Corners(xmin=left, ymin=top, xmax=right, ymax=bottom)


def _masks(spec: ModelSpec, _measured: Measured, result: Detected) -> list[LabelledMask]:
    pixels = math.prod(result.size) * len(result.instances)
    if pixels > MOST_PIXELS:
        height, width = result.size
        raise ImageTooLarge(
            f"the masks of {len(result.instances)} objects in {height}x{width} pixels would have "
            f"{pixels} pixels, but those of an image may have {MOST_PIXELS}; ask for fewer with "
            "threshold or max_detections, or for run lengths at /v1/detect",
            parameter="max_detections",
            limit=MOST_PIXELS,
            value=pixels,
        )
    return [
        LabelledMask(label=spec.labels[one.index], score=one.score, mask=_encode(one.mask))
        for one in result.instances
        if one.mask is not None
    ]


def _encode(mask: RunLengths) -> str:
    whole = np.zeros(mask.size, dtype=bool)
    part, (left, top) = mask.pixels()
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return base64.b64encode(to_grey_png(whole)).decode()
