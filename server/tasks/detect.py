"""Detection: the objects in an image, with their boxes and, if the model has them, masks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from vimserve.kernels.paste_masks import paste_masks
from vimserve.model.detections import MOST, Array, Detections, Selection
from vimserve.model.palette import make_palette
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import SQUARE_MULTIPLE, Transform
from vimserve.server.errors import ImageTooLarge, InvalidParameter
from vimserve.server.images import boxes, coco, geojson
from vimserve.server.images.instance import Instance
from vimserve.server.images.prepare import Measured
from vimserve.server.images.run_lengths import RunLengths
from vimserve.server.images.source import Size
from vimserve.server.tasks.numbers import number, whole_number
from vimserve.server.tasks.query import ImageQuery, Resolution, transform_for
from vimserve.server.tasks.task import Plan, Task

# What is more likely an object than not. Evaluations want more, the published one 0.05 for its
# average precision; people want no more than this.
DEFAULT_THRESHOLD = 0.5
DEFAULT_DETECTIONS = 100  # as COCO's evaluation counts
# A mask takes two runs for each column of its box, or more if it is ragged. So many for an image
# take 16 MB, and some MB in an answer. So many columns are refused before any mask is made, because
# each takes its time: a picture may be a pixel high and as wide as the limit of its pixels.
MOST_RUNS = 2**22
PASTED_TOGETHER = 8


class DetectQuery(ImageQuery):
    """Query parameters of a detection."""

    resolution: Resolution = Field(
        default=None,
        description="longer side of the model's input in pixels, or `native` for the image's own "
        "size; with `fit=square` a multiple of 32; by default what the model was evaluated at, or "
        "the image's own, reduced to the limit if it is larger",
    )
    fit: Literal["contain", "square"] | None = Field(
        default=None,
        description="`contain`: the model sees the image alone; `square`: the image and, right of "
        "and below it, padding up to a square, as published; by default what the model was "
        "evaluated with",
        examples=["contain"],
    )
    score_threshold: Annotated[float | None, BeforeValidator(number(0, 1))] = Field(
        default=None,
        ge=0,
        le=1,
        description="only objects that score more; by default 0.5",
        examples=[0.5],
    )
    max_detections: Annotated[int | None, BeforeValidator(whole_number(1, MOST))] = Field(
        default=None,
        ge=1,
        le=MOST,
        description="most objects of an image, the ones that score best; by default 100",
        examples=[100],
    )
    masks: Literal["none", "rle", "polygon"] | None = Field(
        default=None,
        description="how the objects' masks are written in JSON: `rle`: run-length encoded as "
        "pycocotools does it, `polygon`: as a GeoJSON MultiPolygon in pixels; by default `none` in "
        "JSON, while files have the masks unless it is `none`",
        examples=["rle"],
    )


@dataclass(frozen=True, eq=False)
class Detected:
    """A detector's output for an image.

    Attributes:
        size: (height, width) of the original image, upright.
        instances: the objects in it, best first.
    """

    size: Size
    instances: Sequence[Instance]


class Detect(Task[DetectQuery, Detected]):
    """Finds the objects in an image."""

    name = "detect"
    query = DetectQuery
    formats = ("overlay", "coco", "geojson")

    def plan(
        self, spec: ModelSpec, query: DetectQuery, max_resolution: int, form: str | None = None
    ) -> Plan[Detected]:
        """See ``Task.plan``."""
        transform = _transform(spec, query, max_resolution)
        able = has_masks(spec)
        if query.masks not in (None, "none") and not able:
            raise InvalidParameter(
                f"model {spec.name!r} finds boxes only: it has no mask head, so masks must be "
                f"none, not {query.masks}",
                parameter="masks",
                limit="none",
                value=query.masks,
            )
        masks = able if query.masks is None and form else query.masks not in (None, "none")
        threshold, most = query.score_threshold, query.max_detections
        selection = Selection(
            size=(0, 0),
            score_threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
            most=most or DEFAULT_DETECTIONS,
            masks=masks,
        )

        def wanted(measured: Measured) -> Selection:
            return replace(selection, size=transform.picture_size(*measured.image_size))

        return Plan(transform, partial(_conclude, transform), wanted=wanted)

    def lines(self, spec: ModelSpec, _query: DetectQuery, result: Detected) -> Iterator[str]:
        """The objects, best first, with their scores and the corners of their boxes."""
        for one in result.instances:
            left, top, right, bottom = (round(edge) for edge in one.box)
            yield f"{one.score:7.2%}  {spec.labels[one.index]}  {left},{top} to {right},{bottom}"

    def file(self, spec: ModelSpec, form: str, measured: Measured, result: Detected) -> bytes:
        """The objects in one of ``formats``.

        ``overlay`` is a JPEG of the image on which they are drawn, ``coco`` a dataset with an
        annotation for each, and ``geojson`` has a feature for each.

        Raises:
            ImageTooLarge: if a side is longer than a JPEG allows, or the masks are too intricate.
        """
        found, labels = result.instances, spec.labels
        palette = spec.palette or make_palette(len(labels), first=1)
        if form == "coco":
            return coco.dataset_of(measured.name or "image", result.size, found, labels).encode()
        if form == "geojson":
            return geojson.collection_of(found, labels, palette).encode()
        return boxes.overlay(measured.picture(), found, labels, palette)


def has_masks(spec: ModelSpec) -> bool:
    """Whether a detector has a mask head."""
    return bool(getattr(spec.config, "masks", False))


def _transform(spec: ModelSpec, query: DetectQuery, max_resolution: int) -> Transform:
    try:
        transform = transform_for(spec, query, query.resolution, query.fit, max_resolution)
        if query.resolution is None:
            transform = replace(transform, at_most=max_resolution)
        return transform
    except ValueError as error:
        raise InvalidParameter(
            str(error),
            parameter="resolution",
            limit=SQUARE_MULTIPLE,
            value=spec.transform.resolution if query.resolution is None else int(query.resolution),
        ) from error


def _conclude(transform: Transform, measured: Measured, outputs: Sequence[Tensor]) -> Detected:
    """Detections in pixels of the model's input to instances in pixels of the image."""
    found = Detections.unpack(outputs[0])
    height, width = measured.image_size
    seen_height, seen_width = transform.picture_size(height, width)
    across, down = width / seen_width, height / seen_height
    scaled = found.boxes * np.array([across, down, across, down], dtype=np.float32)
    scaled = scaled.clip(0, np.array([width, height, width, height], dtype=np.float32))
    kept = (scaled[:, 0] < scaled[:, 2]) & (scaled[:, 1] < scaled[:, 3])
    masks: Sequence[RunLengths | None] = [None] * int(kept.sum())
    if found.masks is not None:
        masks = _paste(found.masks[kept], scaled[kept], (height, width))
    instances = [
        Instance(index, score, (box[0], box[1], box[2], box[3]), mask)
        for index, score, box, mask in zip(
            found.classes[kept].tolist(),
            found.scores[kept].tolist(),
            scaled[kept].tolist(),
            masks,
            strict=True,
        )
    ]
    return Detected((height, width), instances)


def _paste(masks: Array, edges: Array, size: Size) -> list[RunLengths]:
    """The masks of boxes as pixels of the image.

    Raises:
        ImageTooLarge: if they have more than ``MOST_RUNS`` runs.
    """
    pasted: list[RunLengths] = []
    _check_runs(2 * math.ceil((edges[:, 2] - edges[:, 0]).sum(dtype=np.float64)))
    runs = 0
    for first in range(0, len(masks), PASTED_TOGETHER):
        those = slice(first, first + PASTED_TOGETHER)
        some, of = (np.ascontiguousarray(array[those]) for array in (masks, edges))
        counts, starts = (
            part.numpy() for part in paste_masks(torch.from_numpy(some), torch.from_numpy(of), size)
        )
        runs += len(counts)
        _check_runs(runs)
        pasted += [RunLengths(counts[begin:end], size) for begin, end in pairwise(starts.tolist())]
    return pasted


def _check_runs(runs: int) -> None:
    if runs > MOST_RUNS:
        raise ImageTooLarge(
            f"the masks have about {runs} runs of pixels or more, but those of an image may have "
            f"{MOST_RUNS}; ask for masks=none, or for fewer with max_detections",
            parameter="max_detections",
            limit=MOST_RUNS,
            value=runs,
        )
