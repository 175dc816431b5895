"""``POST /v1/detect``."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from vimserve.model.spec import ModelSpec
from vimserve.server.http.openapi import json_schema
from vimserve.server.images.coco import run_length_encoded
from vimserve.server.images.geojson import multi_polygons
from vimserve.server.images.instance import Instance
from vimserve.server.images.prepare import Measured
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import BINARY, IMAGE_BODY, PROBLEMS
from vimserve.server.routes.native.file_answers import HEADERS, file_form
from vimserve.server.routes.native.files import (
    CocoDataset,
    MultiPolygon,
    ObjectCollection,
    RunLengths,
)
from vimserve.server.routes.native.rendering import Form, Rendering, Result, answer, json_response
from vimserve.server.routes.native.schemas import BatchInfo, Compared, ModelInput, Timing
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.detect import Detected, DetectQuery

TASK = TASKS["detect"]
FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Objects, or with another `format` than `json` a file for the one image; "
        "the header `X-Sample-Range` then has what is `input.range` in JSON",
        "content": {
            "image/jpeg": BINARY,
            "application/geo+json": {"schema": json_schema(ObjectCollection)},
        },
        "headers": HEADERS,
    }
}
# How far an object may move from one answer to another for the same picture, in pixels and score,
# and which share of them may come and go: batches of other sizes round differently, which decides
# between boxes that overlap and score alike.
BOX_BOUND, SCORE_BOUND, COUNT_BOUND = 1.0, 0.02, 0.05
CHECKED_SCORE = 0.05

router = APIRouter(prefix="/v1")


class NativeDetectQuery(DetectQuery):
    """What `POST /v1/detect` may be asked."""

    model: str | None = Field(
        default=None,
        description="one of `GET /v1/models`; by default the first that detects",
        examples=["demo-det"],
    )
    format: Literal["json", "overlay", "coco", "geojson"] = Field(
        default="json",
        description="`json`: the objects in every image; `overlay`: a JPEG of the one image with "
        "boxes, names, scores and tinted masks; `coco`: a COCO dataset of the one image with an "
        "annotation for each object, which has its score; `geojson`: a FeatureCollection of the "
        "objects, in pixels, with the `classification` and the `measurements` that QuPath reads",
        examples=["json", "overlay"],
    )


class Box(BaseModel):
    """Where an object is, in pixels of the upright image, from its upper left corner."""

    x1: float = Field(description="left edge")
    y1: float = Field(description="upper edge")
    x2: float = Field(description="right edge")
    y2: float = Field(description="lower edge")


class Detection(BaseModel):
    """An object."""

    index: int = Field(description="of its class")
    label: str
    score: float = Field(ge=0, le=1)
    box: Box
    # As any, because pydantic takes twenty times as long to write one of several kinds.
    mask: SerializeAsAny[RunLengths | MultiPolygon | None] = Field(
        default=None,
        description="which pixels of the image are its, with `masks=rle` or `masks=polygon`",
    )


class DetectResult(BaseModel):
    """The answer for one image."""

    file: str | None = Field(default=None, description="name of the upload, in a multipart request")
    height: int = Field(description="of the upright image, in pixels")
    width: int = Field(description="of the upright image, in pixels")
    detections: list[Detection] = Field(description="best first")
    input: ModelInput


class DetectResponse(BaseModel):
    """The objects in every image of the request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo-det",
                "results": [
                    {
                        "height": 1248,
                        "width": 1248,
                        "detections": [
                            {
                                "index": 11,
                                "label": "dog",
                                "score": 0.9713,
                                "box": {"x1": 81.25, "y1": 640.5, "x2": 412.125, "y2": 911.75},
                            }
                        ],
                        "input": {"height": 1248, "width": 1248, "tokens": 6084},
                    }
                ],
                "timing_ms": {
                    "decode": 21.3,
                    "queue": 0.3,
                    "inference": 1702.4,
                    "postprocess": 0.4,
                    "total": 1726.1,
                },
                "batch": {"images": 1, "tokens": 6084, "peak_memory_bytes": 296_468_992},
            }
        }
    )

    model: str
    results: list[DetectResult]
    timing_ms: Timing
    batch: BatchInfo


class ComparedDetector(Compared, DetectResponse):
    """What one of the models made of the images."""


@router.post(
    "/detect",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=FILES | PROBLEMS,
    response_model=DetectResponse | CocoDataset,
    dependencies=[Depends(admitted)],
)
async def detect(
    request: Request,
    pipeline: Service,
    urgency: RequestUrgency,
    query: Annotated[NativeDetectQuery, Query()],
) -> Response:
    """Find the objects in one or more images."""
    return await answer(request, pipeline, urgency, RENDERING, query)


def form(spec: ModelSpec, query: NativeDetectQuery) -> Form[Detected, Any]:
    """How the answer is written: in JSON, or as the file of the one image."""
    if query.format == "json":
        return Form(partial(render, spec, query), partial(json_response, DetectResponse, spec))
    return file_form(TASK, spec, query.format)


def render(
    spec: ModelSpec, query: DetectQuery, measured: Measured, result: Detected
) -> DetectResult:
    """The objects of an image, with their masks as the query wants them."""
    height, width = result.size
    masks: list[Any] = [None] * len(result.instances)
    if query.masks in ("rle", "polygon"):
        masks = _masks(query.masks, result)
    return DetectResult(
        file=measured.name,
        height=height,
        width=width,
        detections=[
            Detection(
                index=one.index,
                label=spec.labels[one.index],
                score=one.score,
                box=_box(one),
                mask=mask,
            )
            for one, mask in zip(result.instances, masks, strict=True)
        ],
        input=ModelInput.of(measured),
    )


def _masks(form: Literal["rle", "polygon"], result: Detected) -> list[Any]:
    masks = [one.mask for one in result.instances if one.mask is not None]
    if form == "rle":
        return [run_length_encoded(mask) for mask in masks]
    return list(multi_polygons(masks, "masks", "masks=rle"))


def _box(one: Instance) -> Box:
    x1, y1, x2, y2 = (round(edge, 3) for edge in one.box)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def fault(result: Result, first: Result, side: int) -> str | None:
    """How a result is malformed or differs from the first one for its image; None if neither."""
    now, before = result["detections"], first["detections"]
    scores = [one["score"] for one in now]
    if scores != sorted(scores, reverse=True):
        return "the detections are not sorted by score"
    for one in now:
        x1, y1, x2, y2 = one["box"].values()
        if not (0 <= x1 <= x2 <= side and 0 <= y1 <= y2 <= side):
            return f"the box {one['box']} is no box in {side}x{side} pixels"
    differing = _missing(now, before) + _missing(before, now)
    if differing > COUNT_BOUND * (len(now) + len(before)):
        return f"{differing} detections differ from an earlier answer for the same picture"
    return None


def _missing(some: list[Result], others: list[Result]) -> int:
    """How many are not among the others; without those that may just not have been good enough."""
    certain = [one for one in some if one["score"] > CHECKED_SCORE + SCORE_BOUND]
    return sum(not any(_alike(one, other) for other in others) for one in certain)


def _alike(one: Result, other: Result) -> bool:
    edges = zip(one["box"].values(), other["box"].values(), strict=True)
    return (
        one["index"] == other["index"]
        and abs(one["score"] - other["score"]) <= SCORE_BOUND
        and all(abs(a - b) <= BOX_BOUND for a, b in edges)
    )


RENDERING = Rendering(
    task=TASK,
    query=NativeDetectQuery,
    response=DetectResponse,
    form=form,
    result=render,
    compared=ComparedDetector,
    check_query=f"score_threshold={CHECKED_SCORE}&fit=contain&resolution=native",
    fault=fault,
)
