"""``POST /v1/segment``."""

import base64
from functools import partial
from io import BytesIO
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from vimserve.model.spec import ModelSpec
from vimserve.server.http.openapi import json_schema
from vimserve.server.images.prepare import Measured
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import BINARY, IMAGE_BODY, PROBLEMS
from vimserve.server.routes.native.file_answers import GEOREFERENCE_HEADER, HEADERS, file_form
from vimserve.server.routes.native.files import CocoDataset, FeatureCollection
from vimserve.server.routes.native.rendering import Form, Rendering, Result, answer, json_response
from vimserve.server.routes.native.schemas import BatchInfo, Compared, ModelInput, Timing
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.segment import ClassMap, SegmentQuery

TASK = TASKS["segment"]
MASKS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Classes and masks, or with another `format` than `json` a file for the one "
        "image; the header `X-Sample-Range` then has what is `input.range` in JSON",
        "content": {
            "image/png": BINARY,
            "image/jpeg": BINARY,
            "application/geo+json": {"schema": json_schema(FeatureCollection)},
            "image/tiff": BINARY,
        },
        "headers": HEADERS
        | {
            GEOREFERENCE_HEADER: {
                "description": "with `format=geotiff`: `copied` if the mask has the upload's "
                "georeference, `none` if the upload has none, or one that cannot be read",
                "schema": {"type": "string", "enum": ["copied", "none"]},
                "example": "copied",
            }
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
    format: Literal["json", "png", "overlay", "coco", "geojson", "geotiff"] = Field(
        default="json",
        description="`json`: classes and mask of every image; `png`: the mask of the one image, "
        "its pixel values are the classes; `overlay`: a JPEG of the image tinted with the classes' "
        "colours, above a legend; `coco`: a COCO dataset of the one image with a mask for each "
        "class, run-length encoded as pycocotools does it; `geojson`: a FeatureCollection of a "
        "polygon for each connected region, in pixels, with the `classification` that QuPath "
        "reads; `geotiff`: the mask with its palette as a TIFF that lies where the upload lies, "
        "and has 255 where all samples that the model saw are the upload's GDAL_NODATA",
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
        return Form(partial(render, spec, query), partial(json_response, SegmentResponse, spec))
    return file_form(TASK, spec, query.format)


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
