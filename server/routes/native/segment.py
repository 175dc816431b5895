"""``POST /v1/segment``."""

import base64
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.openapi import json_schema
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Completed
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import BINARY, IMAGE_BODY, PROBLEMS
from vimserve.server.routes.native.files import CocoDataset, FeatureCollection
from vimserve.server.routes.native.rendering import (
    Form,
    Rendering,
    Result,
    answer,
    json_response,
    timed_response,
)
from vimserve.server.routes.native.schemas import BatchInfo, Compared, ModelInput, Timing
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.segment import ClassMap, SegmentQuery

TASK = TASKS["segment"]
MEDIA_TYPES = {
    "png": "image/png",
    "overlay": "image/jpeg",
    "coco": "application/json",
    "geojson": "application/geo+json",
}
# These formats have no room for ``input.range``.
RANGE_HEADER = "X-Sample-Range"
MASKS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Classes and masks, or with another `format` than `json` a file for the one "
        "image; the header `X-Sample-Range` then has what is `input.range` in JSON",
        "content": {
            "image/png": BINARY,
            "image/jpeg": BINARY,
            "application/geo+json": {"schema": json_schema(FeatureCollection)},
        },
        "headers": {
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
        },
    }
}
# Share of pixels that may differ: where two classes are equally likely, batches of other sizes may
# round differently.
PIXELS_BOUND = 0.01

router = APIRouter(prefix="/v1")


class NativeSegmentQuery(SegmentQuery):
    """What `POST /v1/segment` may be asked."""

    model: str | None = Field(
        default=None,
        description="one of `GET /v1/models`; by default the first that segments",
        examples=["demo-seg"],
    )
    format: Literal["json", "png", "overlay", "coco", "geojson"] = Field(
        default="json",
        description="`json`: classes and mask of every image; `png`: the mask of the one image, "
        "its pixel values are the classes; `overlay`: a JPEG of the image tinted with the classes' "
        "colours, above a legend; `coco`: a COCO dataset of the one image with a mask for each "
        "class, run-length encoded as pycocotools does it; `geojson`: a FeatureCollection of a "
        "polygon for each connected region, in pixels, with the `classification` that QuPath reads",
        examples=["json", "overlay"],
    )


class SegmentedClass(BaseModel):
    """A class and how much of an image it has."""

    index: int
    label: str
    pixels: int
    fraction: float = Field(ge=0, le=1)


class SegmentResult(BaseModel):
    """The answer for one image."""

    file: str | None = Field(default=None, description="name of the upload, in a multipart request")
    height: int = Field(description="of the image and the mask, in pixels")
    width: int = Field(description="of the image and the mask, in pixels")
    classes: list[SegmentedClass] = Field(description="those that the image has, the largest first")
    mask: str = Field(
        description="a PNG in base64; its pixel values are the classes, its palette their colours"
    )
    input: ModelInput
    windows: int = Field(description="parts in which the model saw the image")


class SegmentResponse(BaseModel):
    """A class for every pixel of every image of the request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo-seg",
                "results": [
                    {
                        "height": 1248,
                        "width": 1248,
                        "classes": [
                            {
                                "index": 0,
                                "label": "background",
                                "pixels": 1_243_812,
                                "fraction": 0.7986,
                            },
                            {"index": 11, "label": "dog", "pixels": 313_692, "fraction": 0.2014},
                        ],
                        "mask": "iVBORw0KGgo…",
                        "input": {"height": 1248, "width": 1248, "tokens": 6084},
                        "windows": 1,
                    }
                ],
                "timing_ms": {
                    "decode": 21.3,
                    "queue": 0.3,
                    "inference": 702.4,
                    "postprocess": 14.8,
                    "total": 741.0,
                },
                "batch": {"images": 1, "tokens": 6084, "peak_memory_bytes": 96_468_992},
            }
        }
    )

    model: str
    results: list[SegmentResult]
    timing_ms: Timing
    batch: BatchInfo


class ComparedSegmenter(Compared, SegmentResponse):
    """What one of the models made of the images."""


@router.post(
    "/segment",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=MASKS | PROBLEMS,
    response_model=SegmentResponse | CocoDataset,
    dependencies=[Depends(admitted)],
)
async def segment(
    request: Request,
    pipeline: Service,
    urgency: RequestUrgency,
    query: Annotated[NativeSegmentQuery, Query()],
) -> Response:
    """Name what every pixel of one or more images belongs to."""
    return await answer(request, pipeline, urgency, RENDERING, query)


def form(spec: ModelSpec, query: NativeSegmentQuery) -> Form[ClassMap, Any]:
    """How the answer is written: in JSON, or as the file of the one image."""
    if query.format == "json":
        return Form(partial(render, spec, query), partial(_respond, spec))
    return Form(
        partial(to_file, spec, query),
        partial(_respond_with_file, query.format),
        partial(_admit_one, query.format),
        drawing=query.format == "overlay",
    )


def _respond(spec: ModelSpec, completed: Completed[SegmentResult]) -> Response:
    body = SegmentResponse(
        model=spec.name,
        results=completed.results,
        timing_ms=Timing.of(completed.stages),
        batch=BatchInfo.of(completed.batch),
    )
    return json_response(body, completed)


def _respond_with_file(form: str, completed: Completed[bytes]) -> Response:
    answered = timed_response(completed.results[0], MEDIA_TYPES[form], completed)
    if used := completed.measured[0].sample_range:
        answered.headers[RANGE_HEADER] = ",".join(f"{value:.17g}" for value in used)
    return answered


def _admit_one(form: str, images: Sequence[Source]) -> None:
    if len(images) > 1:
        raise InvalidParameter(
            f"format={form} answers a single image, not {len(images)}; format=json answers several",
            parameter="format",
            limit="json",
            value=form,
        )


def to_file(
    spec: ModelSpec, query: NativeSegmentQuery, measured: Measured, result: ClassMap
) -> bytes:
    """The file that the query asks for."""
    return TASK.file(spec, query.format, measured, result)


def render(
    spec: ModelSpec, _query: SegmentQuery, measured: Measured, result: ClassMap
) -> SegmentResult:
    """The classes of an image, and its mask as a PNG."""
    height, width = result.classes.shape
    return SegmentResult(
        file=measured.name,
        height=height,
        width=width,
        classes=[
            SegmentedClass(
                index=i,
                label=spec.labels[i],
                pixels=pixels,
                fraction=pixels / result.classes.size,
            )
            for i, pixels in result.pixels(len(spec.labels)).items()
        ],
        mask=base64.b64encode(TASK.file(spec, "png", measured, result)).decode(),
        input=ModelInput.of(measured),
        windows=len(measured.views),
    )


def fault(result: Result, first: Result, side: int) -> str | None:
    """How a result is malformed or differs from the first one for its image; None if neither."""
    mask, before = (_classes_of(one["mask"]) for one in (result, first))
    if mask.shape != (side, side):
        return f"the mask has shape {mask.shape}, not {(side, side)}"
    counts = np.bincount(mask.reshape(-1), minlength=256)
    told = {one["index"]: one["pixels"] for one in result["classes"]}
    if told != {int(index): int(counts[index]) for index in np.flatnonzero(counts)}:
        return "the classes do not match the mask"
    if (mask != before).mean() > PIXELS_BOUND:
        return "the mask differs from that of an earlier answer for the same picture"
    return None


def _classes_of(mask: str) -> Any:
    return np.asarray(PIL.Image.open(BytesIO(base64.b64decode(mask))))


RENDERING = Rendering(
    task=TASK,
    query=NativeSegmentQuery,
    response=SegmentResponse,
    form=form,
    result=render,
    compared=ComparedSegmenter,
    check_query="resolution=native",
    fault=fault,
)
