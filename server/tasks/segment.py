"""The task ``segment``: whole images or sliding windows in, class maps out."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.catalog import ModelSpec
from vimserve.model.palette import make_palette
from vimserve.model.slide import CELLS, average, windows
from vimserve.model.transform import Transform
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.request import Answer
from vimserve.server.engine.urgency import Options
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.uploads import Upload
from vimserve.server.images.mask import overlay, to_png
from vimserve.server.images.prepare import Measured, Views, transform_for, whole
from vimserve.server.schemas import MaskFormat, SegmentedClass, SegmentInput, SegmentResult
from vimserve.server.tasks.plan import Task, model_input

DEFAULT_WINDOW, LEAST_WINDOW = 512, 128

ClassMap = np.ndarray[Any, np.dtype[np.uint8]]


def plan(
    model: Loaded,
    query: SegmentInput,
    options: Options,
    max_resolution: int,
    form: Literal["json", "png", "overlay"] = "json",
) -> Task[Any]:
    """What ``query`` and ``options`` ask of the model.

    Its results are ``SegmentResult`` or, in the other formats, the bytes of a picture.

    Raises:
        InvalidParameter: if it cannot be done.
    """
    spec = model.runner.spec
    transform, views = look(spec, query, max_resolution)

    def conclude(
        upload: Upload, measured: Measured, answers: Sequence[Answer]
    ) -> SegmentResult | bytes:
        classes = class_map(spec, measured, [answer.output for answer in answers])
        if form == "json":
            return to_result(spec, upload, measured, classes)
        return to_picture(spec, form, measured, classes)

    return Task(model, transform, options, conclude, views)


def look(spec: ModelSpec, query: SegmentInput, max_resolution: int) -> tuple[Transform, Views]:
    """How the model shall look at an image: its size, and the parts that it sees one by one.

    Raises:
        InvalidParameter: for a resolution or a window that is not possible.
    """
    transform = transform_for(spec, query.resolution, "contain", max_resolution)
    if query.resolution is None:
        transform = replace(transform, at_most=max_resolution)
    if query.mode == "whole":
        if query.window is not None:
            raise InvalidParameter(
                "window is for mode=slide, not for mode=whole", parameter="window", limit="slide",
                value=query.mode,
            )  # fmt: skip
        return transform, whole
    window = _window(spec, query.window, max_resolution)
    if query.resolution is None:
        transform = replace(transform, shorter=window)
    return transform, partial(windows, side=window, cell=_cell(spec))


def class_map(spec: ModelSpec, measured: Measured, outputs: Sequence[Tensor]) -> ClassMap:
    """The map of one upload from the model's outputs for its views, uint8 ``[H, W]``."""
    if len(outputs) == 1:
        return outputs[0].numpy()
    scores = average(outputs, measured.views, measured.size, _cell(spec))
    return upsample_argmax(scores, measured.upload_size)[0].numpy()


def to_result(
    spec: ModelSpec, upload: Upload, measured: Measured, classes: ClassMap
) -> SegmentResult:
    """What JSON says of an upload."""
    height, width = classes.shape
    return SegmentResult(
        file=upload.name,
        height=height,
        width=width,
        classes=classes_of(classes, spec.labels),
        mask=base64.b64encode(to_picture(spec, "png", measured, classes)).decode(),
        input=model_input(measured),
        windows=len(measured.views),
    )


def to_picture(spec: ModelSpec, form: MaskFormat, measured: Measured, classes: ClassMap) -> bytes:
    """The picture of an upload's classes.

    Raises:
        ImageTooLarge: if it has more pixels on a side than the format can have.
    """
    palette = spec.palette or make_palette(len(spec.labels))
    if form == "png":
        return to_png(classes, palette)
    legend = [
        (f"{one.label} {one.fraction:.1%}", one.index) for one in classes_of(classes, spec.labels)
    ]
    return overlay(measured.decode(), classes, palette, legend)


def classes_of(classes: ClassMap, labels: Sequence[str]) -> list[SegmentedClass]:
    """The classes that a map has, the largest first."""
    pixels = np.bincount(classes.reshape(-1), minlength=len(labels))
    order = np.argsort(-pixels, kind="stable")
    return [
        SegmentedClass(
            index=i, label=labels[i], pixels=pixels[i], fraction=pixels[i] / classes.size
        )
        for i in order.tolist()
        if pixels[i]
    ]


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
