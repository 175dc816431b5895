"""Answers that are a file, made of the one image of a request."""

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from fastapi.responses import Response

from vimserve.model.spec import ModelSpec
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Completed
from vimserve.server.routes.native.rendering import Form, timed_response
from vimserve.server.tasks.task import Task

MEDIA_TYPES = {
    "png": "image/png",
    "overlay": "image/jpeg",
    "coco": "application/json",
    "geojson": "application/geo+json",
    "geotiff": "image/tiff",
}
# What decodes the image once more, and what that costs.
DECODING = {
    "overlay": attrgetter("picture_cost"),
    "geotiff": attrgetter("raster_cost"),
}
# Files have no room for ``input.range``.
RANGE_HEADER = "X-Sample-Range"
GEOREFERENCE_HEADER = "X-Georeference"
HEADERS = {
    RANGE_HEADER: {
        "description": "sample values that became black and white, if there was a choice; "
        "not with `format=json`",
        "schema": {"type": "string"},
        "example": "0,4095",
    },
    "Server-Timing": {
        "description": "the stages, as in `timing_ms`",
        "schema": {"type": "string"},
        "example": "decode;dur=21.3, queue;dur=0.3, inference;dur=702.4",
    },
}


def file_form(task: Task[Any, Any], spec: ModelSpec, form: str) -> Form[Any, bytes]:
    """An answer in one of the task's ``formats``."""
    return Form(
        partial(_to_file, task, spec, form),
        partial(_respond, form),
        partial(_admit_one, form),
        decoding=DECODING.get(form),
        file=form,
    )


def _to_file(
    task: Task[Any, Any], spec: ModelSpec, form: str, measured: Measured, result: Any
) -> bytes:
    return task.file(spec, form, measured, result)


def _respond(form: str, completed: Completed[bytes]) -> Response:
    answered = timed_response(completed.results[0], MEDIA_TYPES[form], completed)
    if used := completed.measured[0].sample_range:
        answered.headers[RANGE_HEADER] = ",".join(f"{value:.17g}" for value in used)
    if form == "geotiff":
        raster = completed.measured[0].raster
        copied = raster is not None and raster.georeference
        answered.headers[GEOREFERENCE_HEADER] = "copied" if copied else "none"
    return answered


def _admit_one(form: str, images: Sequence[Source]) -> None:
    if len(images) > 1:
        raise InvalidParameter(
            f"format={form} answers a single image, not {len(images)}; format=json answers several",
            parameter="format",
            limit="json",
            value=form,
        )
