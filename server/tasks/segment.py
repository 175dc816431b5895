"""Semantic segmentation: the class of every pixel, from whole images or sliding windows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import BeforeValidator, Field
from torch import Tensor

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.palette import make_palette
from vimserve.model.slide import CELLS, average, windows
from vimserve.model.spec import ModelSpec
from vimserve.server.errors import InvalidParameter
from vimserve.server.images import coco, geojson
from vimserve.server.images.mask import overlay, to_png
from vimserve.server.images.prepare import Measured
from vimserve.server.tasks.numbers import whole_number
from vimserve.server.tasks.query import ImageQuery, Resolution, transform_for
from vimserve.server.tasks.task import Plan, Task

DEFAULT_WINDOW, LEAST_WINDOW = 512, 128


class SegmentQuery(ImageQuery):
    """Query parameters of a segmentation."""

    resolution: Resolution = Field(
        default=None,
        description="longer side of the model's input in pixels, or `native` for the image's own "
        "size; by default the image's own, reduced to the limit if it is larger, or with "
        "`mode=slide` the size whose shorter side is as long as a window",
    )
    fit: Literal["contain"] = Field(
        default="contain",
        description="the whole image: every pixel gets a class",
        examples=["contain"],
    )
    mode: Literal["whole", "slide"] = Field(
        default="whole",
        description="`whole`: the image in one piece; `slide`: overlapping square windows, whose "
        "class scores are averaged",
        examples=["slide"],
    )
    window: Annotated[int | None, BeforeValidator(whole_number(1))] = Field(
        default=None,
        ge=1,
        description="side of a window in pixels, with `mode=slide`; by default 512",
        examples=[512],
    )


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A segmenter's output for an image.

    Attributes:
        classes: uint8 ``[H, W]``, the class of every pixel of the original image.
    """

    classes: np.ndarray[Any, np.dtype[np.uint8]]

    def pixels(self, num_classes: int) -> dict[int, int]:
        """Number of pixels of each class that occurs, the largest first."""
        counts = np.bincount(self.classes.reshape(-1), minlength=num_classes)
        order = np.argsort(-counts, kind="stable").tolist()
        return {i: int(counts[i]) for i in order if counts[i]}


@dataclass(frozen=True, eq=False)
class ScoredMap:
    """A segmenter's output for an image, with its certainty.

    Attributes:
        classes: uint8 ``[H, W]``, the class of every pixel of the original image.
        probabilities: float32 ``[H, W]``, of those classes among all.
        scores: float32 ``[classes, h, w]`` before any softmax, on the model's own grid.
    """

    classes: np.ndarray[Any, np.dtype[np.uint8]]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    scores: np.ndarray[Any, np.dtype[np.float32]]


class Segment(Task[SegmentQuery, ClassMap]):
    """Names what every pixel of an image belongs to."""

    name = "segment"
    query = SegmentQuery
    formats = ("png", "overlay", "coco", "geojson")

    def plan(self, spec: ModelSpec, query: SegmentQuery, max_resolution: int) -> Plan[ClassMap]:
        """See ``Task.plan``."""
        conclude = partial(_conclude, spec)
        transform = transform_for(spec, query, query.resolution, "contain", max_resolution)
        if query.resolution is None:
            transform = replace(transform, at_most=max_resolution)
        if query.mode == "whole":
            if query.window is not None:
                raise InvalidParameter(
                    "window is for mode=slide, not for mode=whole", parameter="window",
                    limit="slide", value=query.mode,
                )  # fmt: skip
            return Plan(transform, conclude)
        window = _window(spec, query.window, max_resolution)
        if query.resolution is None:
            transform = replace(transform, shorter=window)
        return Plan(transform, conclude, partial(windows, side=window, cell=_cell(spec)))

    def scored_plan(
        self, spec: ModelSpec, query: SegmentQuery, max_resolution: int
    ) -> Plan[ScoredMap]:
        """As ``plan``, for a result that has the classes' probabilities too."""
        plan = self.plan(spec, query, max_resolution)
        return Plan(plan.transform, partial(_conclude_scored, spec), plan.views, scores=True)

    def lines(self, spec: ModelSpec, _query: SegmentQuery, result: ClassMap) -> Iterator[str]:
        """The classes that the image has, with their shares of its pixels."""
        for i, pixels in result.pixels(len(spec.labels)).items():
            yield f"{pixels / result.classes.size:7.2%}  {spec.labels[i]}"

    def file(self, spec: ModelSpec, form: str, measured: Measured, result: ClassMap) -> bytes:
        """The classes in one of ``formats``.

        ``png`` has them as pixel values, ``overlay`` is a JPEG of the image tinted in their
        colours, ``coco`` a dataset of a mask for each class, and ``geojson`` has a polygon for each
        region.

        Raises:
            ImageTooLarge: if a side is longer than a JPEG allows, or the regions are too intricate.
        """
        palette = spec.palette or make_palette(len(spec.labels))
        if form == "png":
            return to_png(result.classes, palette)
        if form == "coco":
            return coco.dataset(measured.name or "image", result.classes, spec.labels).encode()
        if form == "geojson":
            return geojson.feature_collection(result.classes, spec.labels, palette).encode()
        legend = [
            (f"{spec.labels[i]} {pixels / result.classes.size:.1%}", i)
            for i, pixels in result.pixels(len(spec.labels)).items()
        ]
        return overlay(measured.picture(), result.classes, palette, legend)


def _conclude(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> ClassMap:
    if len(outputs) == 1:
        return ClassMap(outputs[0].numpy())
    scores = average(outputs, measured.views, measured.size, _cell(spec))
    return ClassMap(upsample_argmax(scores, measured.image_size)[0].numpy())


def _conclude_scored(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> ScoredMap:
    scores = outputs[0]
    if len(outputs) > 1:
        scores = average(outputs, measured.views, measured.size, _cell(spec))
    classes, probabilities = upsample_argmax(scores, measured.image_size, probability=True)
    return ScoredMap(classes.numpy(), cast("Tensor", probabilities).numpy(), scores.numpy())


def _window(spec: ModelSpec, window: int | None, max_resolution: int) -> int:
    multiple = spec.transform.multiple
    if spec.config.patch_size != spec.config.stride:
        raise InvalidParameter(
            f"mode=slide needs a model whose patches do not overlap; those of {spec.name!r} do",
            parameter="mode",
            limit="whole",
            value="slide",
        )
    least, most = (
        n // multiple * multiple for n in (min(LEAST_WINDOW, max_resolution), max_resolution)
    )
    if window is None:
        return max(min(DEFAULT_WINDOW // multiple * multiple, most), multiple)
    if not least <= window <= most or window % multiple:
        raise InvalidParameter(
            f"window must be a multiple of {multiple} from {least} to {most} pixels, not {window}",
            parameter="window",
            limit=least if window < least else most,
            value=window,
        )
    return window


def _cell(spec: ModelSpec) -> int:
    return spec.config.stride // CELLS
