"""The task image-segmentation, of which there is the semantic kind: every pixel has one class."""

import base64
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.images.mask import to_grey_png
from vimserve.server.images.prepare import Measured
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.hugging_face.parameters import Parameters, read_parameters
from vimserve.server.tasks.segment import ClassMap, ScoredMap, Segment
from vimserve.server.tasks.task import Plan

TAG = "image-segmentation"
TASK = Segment()
# How probable a class must be for a pixel to count as covered by it, when overlaps are compared.
COVERED = 0.5

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class SegmentationParameters(Parameters):
    """What Hugging Face names for this task."""

    subtask: str | None = None
    threshold: float | None = Field(default=None, ge=0, le=1)
    mask_threshold: float | None = Field(default=None, ge=0, le=1)
    overlap_mask_area_threshold: float | None = Field(default=None, ge=0, le=1)


class LabelledMask(BaseModel):
    """A class that the image has, and where."""

    label: str
    score: float | None = Field(
        default=None,
        description="the mean probability of the class in its mask, absent without a threshold; of "
        "an object how certain it is",
    )
    mask: str = Field(
        description="a PNG in base64, grey with 0 and 255, in the size of the upright image"
    )


Render = Callable[[Measured, Any], list[LabelledMask]]


def prepare(
    spec: ModelSpec, given: Mapping[str, Any], max_resolution: int
) -> tuple[Plan[Any], Render]:
    """How the model answers with these parameters, and what renders its result.

    Raises:
        MalformedRequest: for another subtask, among others.
        BadRequest: it cannot.
    """
    wanted, query = read_parameters(given, SegmentationParameters, TASK)
    if wanted.subtask not in (None, "semantic"):
        raise MalformedRequest(
            f"model {spec.name!r} segments by class: subtask must be 'semantic', not "
            f"{wanted.subtask!r}",
            parameter="subtask",
            limit="semantic",
            value=wanted.subtask,
        )
    if wanted.model_dump(exclude={"subtask"}, exclude_none=True):
        plan = TASK.scored_plan(spec, query, max_resolution)
        return plan, partial(_render_scored, spec, wanted)
    return TASK.plan(spec, query, max_resolution), partial(_render, spec)


def _render(spec: ModelSpec, _measured: Measured, result: ClassMap) -> list[LabelledMask]:
    return [
        LabelledMask(label=spec.labels[i], mask=_encode(result.classes == i))
        for i in result.pixels(len(spec.labels))
    ]


def _render_scored(
    spec: ModelSpec, wanted: SegmentationParameters, _measured: Measured, result: ScoredMap
) -> list[LabelledMask]:
    certain = result.probabilities >= (wanted.mask_threshold or 0)
    rendered = []
    for i in _kept(wanted, result):
        mask = (result.classes == i) & certain
        score = float(result.probabilities[mask].mean()) if mask.any() else 0.0
        if mask.any() and score >= (wanted.threshold or 0):
            rendered.append(LabelledMask(label=spec.labels[i], score=score, mask=_encode(mask)))
    return rendered


def _kept(wanted: SegmentationParameters, result: ScoredMap) -> Iterator[int]:
    """The classes that win more than the wanted share of the area that each covers.

    A pixel is covered by every class that is probable enough there, though only one wins it. As in
    DETR's postprocessing, a class that wins little of its area is left out: it is the margin of
    another one. The areas are taken on the model's own grid.
    """
    classes = ClassMap(result.classes).pixels(len(result.scores))
    least = wanted.overlap_mask_area_threshold
    if least is None:
        yield from classes
        return
    probability = np.exp(result.scores - result.scores.max(0))
    probability /= probability.sum(0)
    winners = probability.argmax(0)
    enough = COVERED if wanted.mask_threshold is None else wanted.mask_threshold
    for i in classes:
        covered = probability[i] >= enough
        won = np.count_nonzero(covered & (winners == i))
        if won > least * np.count_nonzero(covered) or not covered.any():
            yield i


def _encode(mask: Mask) -> str:
    return base64.b64encode(to_grey_png(mask)).decode()
