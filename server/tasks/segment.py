"""Semantic segmentation: the class of every pixel, from whole images or sliding windows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, cast

import numpy as np
from pydantic import BeforeValidator, Field
from torch import Tensor

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.palette import make_palette
from vimserve.model.slide import CELLS, Mosaic, Window, average, windows
from vimserve.model.spec import ModelSpec
from vimserve.server.errors import ImageTooLarge, InvalidParameter
from vimserve.server.images import coco, geojson, geotiff
from vimserve.server.images.mask import overlay, to_png
from vimserve.server.images.prepare import Measured, Views
from vimserve.server.images.source import Size
from vimserve.server.tasks.numbers import whole_number
from vimserve.server.tasks.query import ImageQuery, Resolution, transform_for
from vimserve.server.tasks.task import Plan, Task

R = TypeVar("R")

DEFAULT_WINDOW, LEAST_WINDOW = 512, 128
# Of the class scores of a row of windows, which are averaged before they become classes.
MOST_SCORE_BYTES = 2**29


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


@dataclass(frozen=True, eq=False)
class RawScores:
    """A segmenter's output for an image, before any pixel got a class.

    Attributes:
        scores: float32 ``[classes, h, w]`` before any softmax, on the model's own grid.
    """

    scores: np.ndarray[Any, np.dtype[np.float32]]


class Segment(Task[SegmentQuery, ClassMap]):
    """Names what every pixel of an image belongs to."""

    name = "segment"
    query = SegmentQuery
    formats = ("png", "overlay", "coco", "geojson", "geotiff")

    def plan(
        self,
        spec: ModelSpec,
        query: SegmentQuery,
        max_resolution: int,
        form: str | None = None,  # noqa: ARG002
    ) -> Plan[ClassMap]:
        """See ``Task.plan``."""
        transform = transform_for(spec, query, query.resolution, "contain", max_resolution)
        if query.resolution is None:
            transform = replace(transform, at_most=max_resolution)
        if query.mode == "whole":
            if query.window is not None:
                raise InvalidParameter(
                    "window is for mode=slide, not for mode=whole", parameter="window",
                    limit="slide", value=query.mode,
                )  # fmt: skip
            return Plan(transform, _conclude, wanted=_map)
        window = _window(spec, query.window, max_resolution)
        if query.resolution is None:
            transform = replace(transform, shorter=window)
        views, joiner = partial(_windows, spec, window), partial(_Joined, cell_of(spec))
        return Plan(transform, _conclude, views, _map, joiner)

    def scored_plan(
        self, spec: ModelSpec, query: SegmentQuery, max_resolution: int
    ) -> Plan[ScoredMap]:
        """As ``plan``, for a result that has the classes' probabilities too.

        Scores are kept of the whole image, so all of it has to be within ``max_resolution``.
        """
        return self._keeping_scores(spec, query, max_resolution, partial(_conclude_scored, spec))

    def raw_plan(
        self, spec: ModelSpec, query: SegmentQuery, max_resolution: int
    ) -> Plan[RawScores]:
        """As ``scored_plan``, for a result that has the scores alone."""
        return self._keeping_scores(spec, query, max_resolution, partial(_conclude_raw, spec))

    def _keeping_scores(
        self,
        spec: ModelSpec,
        query: SegmentQuery,
        max_resolution: int,
        conclude: Callable[[Measured, Sequence[Tensor]], R],
    ) -> Plan[R]:
        plan = self.plan(spec, query, max_resolution)
        views = partial(_limited, plan.views, spec.transform.multiple, max_resolution)
        return Plan(plan.transform, conclude, views)

    def lines(self, spec: ModelSpec, _query: SegmentQuery, result: ClassMap) -> Iterator[str]:
        """The classes that the image has, with their shares of its pixels."""
        for i, pixels in result.pixels(len(spec.labels)).items():
            yield f"{pixels / result.classes.size:7.2%}  {spec.labels[i]}"

    def file(self, spec: ModelSpec, form: str, measured: Measured, result: ClassMap) -> bytes:
        """The classes in one of ``formats``.

        ``png`` has them as pixel values, ``overlay`` is a JPEG of the image tinted in their
        colours, ``coco`` a dataset of a mask for each class, and ``geojson`` has a polygon for each
        region. ``geotiff`` has them as pixel values where the upload lies.

        Raises:
            ImageTooLarge: if a side is longer than a JPEG allows, or the regions are too intricate.
        """
        palette = spec.palette or make_palette(len(spec.labels))
        if form == "png":
            return to_png(result.classes, palette)
        if form == "geotiff":
            return geotiff.mask(result.classes, palette, measured.raster, measured.bands)
        if form == "coco":
            return coco.dataset(measured.name or "image", result.classes, spec.labels).encode()
        if form == "geojson":
            return geojson.feature_collection(result.classes, spec.labels, palette).encode()
        legend = [
            (f"{spec.labels[i]} {pixels / result.classes.size:.1%}", i)
            for i, pixels in result.pixels(len(spec.labels)).items()
        ]
        return overlay(measured.picture(), result.classes, palette, legend)


def _map(measured: Measured) -> Size | None:
    """A map of the original image's size, or of several views the class scores to average."""
    return measured.image_size if len(measured.views) == 1 else None


def _conclude(_measured: Measured, outputs: Sequence[Tensor]) -> ClassMap:
    (classes,) = outputs
    return ClassMap(classes.numpy())


class _Joined:
    """The map of an image of many windows; see ``task.Joiner``."""

    def __init__(self, cell: int, measured: Measured) -> None:
        self._mosaic = Mosaic(measured.views, measured.size, cell, measured.image_size)
        self.add = self._mosaic.add

    def result(self) -> ClassMap:
        return ClassMap(self._mosaic.classes)


def _conclude_raw(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> RawScores:
    return RawScores(_scores(spec, measured, outputs).numpy())


def _conclude_scored(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> ScoredMap:
    scores = _scores(spec, measured, outputs)
    classes, probabilities = upsample_argmax(scores, measured.image_size, probability=True)
    return ScoredMap(classes.numpy(), cast("Tensor", probabilities).numpy(), scores.numpy())


def _scores(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> Tensor:
    if len(outputs) == 1:
        return outputs[0]
    return average(outputs, measured.views, measured.size, cell_of(spec))


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


def _windows(spec: ModelSpec, side: int, size: Size) -> Sequence[Window]:
    """The windows of an input.

    Raises:
        ImageTooLarge: if the scores of a row of them take more than ``MOST_SCORE_BYTES``.
    """
    cell = cell_of(spec)
    parts = windows(size, side, cell)
    num_bytes = Mosaic.num_bytes(parts, size[1], cell, len(spec.labels))
    if num_bytes > MOST_SCORE_BYTES:
        raise ImageTooLarge(
            f"the scores of {len(spec.labels)} classes in a row of windows would take {num_bytes} "
            f"bytes, more than the {MOST_SCORE_BYTES} for one image; ask for smaller windows",
            parameter="window",
            limit=MOST_SCORE_BYTES,
            value=num_bytes,
        )
    return parts


def _limited(views: Views, multiple: int, most: int, size: Size) -> Sequence[Window]:
    """The views of an input of which no side is longer than ``most``, in whole patches.

    Raises:
        ImageTooLarge: if one is.
    """
    if max(size) > -(-most // multiple) * multiple:
        raise ImageTooLarge(
            f"the model's input would be {size[0]}x{size[1]} pixels, but its longest side may have "
            f"{most} if scores are wanted; ask for a smaller resolution",
            parameter="resolution",
            limit=most,
            value=max(size),
        )
    return views(size)


def cell_of(spec: ModelSpec) -> int:
    """Side in pixels of the part of a segmenter's input that one of its scores is for."""
    return spec.config.stride // CELLS
