"""The server's own interface, below /v1."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from vimserve.server.engine.loading import Loaded
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.waiting import finish, receive
from vimserve.server.pipeline import Outcome, Pipeline
from vimserve.server.routes.dependencies import RequestOptions, Service, admitted
from vimserve.server.routes.documents import IMAGE_BODY, MASKS, MEDIA_TYPES, PROBLEMS
from vimserve.server.schemas import (
    ClassifyQuery,
    ClassifyResponse,
    ModelInfo,
    ModelList,
    SegmentQuery,
    SegmentResponse,
    Timing,
    TransformInfo,
)
from vimserve.server.tasks import classify as classification
from vimserve.server.tasks import segment as segmentation
from vimserve.server.telemetry.metrics import resolution_bucket

router = APIRouter(prefix="/v1")


@router.post(
    "/classify",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=PROBLEMS,
    response_model_exclude_none=True,
    dependencies=[Depends(admitted)],
)
async def classify(
    request: Request,
    pipeline: Service,
    options: RequestOptions,
    query: Annotated[ClassifyQuery, Query()],
) -> ClassifyResponse:
    """Name what is in one or more images."""
    request.state.task = "classify"
    model = _model(request, pipeline, query.model, "classify")
    config = pipeline.config
    task = classification.plan(model, query, options, config.max_resolution)
    uploads = await receive(request, options, config.max_body_bytes, config.max_images)
    outcome = await finish(request, pipeline.run(task, uploads), options)
    _note_resolution(request, outcome)
    return ClassifyResponse(
        model=model.runner.spec.name,
        results=outcome.results,
        timing_ms=outcome.timing,
        batch=outcome.batch,
    )


@router.post(
    "/segment",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=MASKS | PROBLEMS,
    response_model=SegmentResponse,
    response_model_exclude_none=True,
    dependencies=[Depends(admitted)],
)
async def segment(
    request: Request,
    pipeline: Service,
    options: RequestOptions,
    query: Annotated[SegmentQuery, Query()],
) -> Response:
    """Name what every pixel of one or more images belongs to."""
    request.state.task = "segment"
    model = _model(request, pipeline, query.model, "segment")
    spec, config = model.runner.spec, pipeline.config
    task = segmentation.plan(model, query, options, config.max_resolution, query.format)
    uploads = await receive(request, options, config.max_body_bytes, config.max_images)
    if query.format != "json" and len(uploads) > 1:
        raise InvalidParameter(
            f"format={query.format} answers a single image, not {len(uploads)}; "
            "format=json answers several",
            parameter="format",
            limit="json",
            value=query.format,
        )
    outcome = await finish(request, pipeline.run(task, uploads), options)
    _note_resolution(request, outcome)
    headers = {"Server-Timing": server_timing(outcome.timing)}
    if query.format != "json":
        return Response(outcome.results[0], 200, headers, MEDIA_TYPES[query.format])
    body = SegmentResponse(
        model=spec.name,
        results=outcome.results,
        timing_ms=outcome.timing,
        batch=outcome.batch,
    )
    text = body.model_dump_json(exclude_none=True)
    return Response(text, 200, headers, media_type="application/json")


@router.get("/models", tags=["models"], response_model_exclude_none=True)
async def models(pipeline: Service) -> ModelList:
    """The models that are served, the default first."""
    engine, config = pipeline.engine, pipeline.config
    return ModelList(
        models=[
            ModelInfo(
                name=spec.name,
                status=served.status,
                detail=served.detail,
                family=spec.family,
                task=spec.task,
                attention=spec.attention,
                parameters=spec.parameters,
                classes=len(spec.labels),
                labels=list(spec.labels) if spec.palette else None,
                palette=list(spec.palette) if spec.palette else None,
                transform=TransformInfo(
                    resolution=spec.transform.resolution or "native",
                    fit=spec.transform.fit,
                    crop_ratio=spec.transform.crop_ratio,
                    multiple=spec.transform.multiple,
                    mean=spec.config.pixel_mean,
                    std=spec.config.pixel_std,
                ),
                max_resolution=config.max_resolution,
                dtype=config.model_dtype,
                device=config.device,
            )
            for served in engine.models.values()
            for spec in (served.spec,)
        ]
    )


def _model(request: Request, pipeline: Pipeline, name: str | None, task: str) -> Loaded:
    spec = pipeline.engine.spec(name, task)
    request.state.model = spec.name
    return pipeline.engine.loaded(spec.name)


def _note_resolution(request: Request, outcome: Outcome[Any]) -> None:
    size = max((one.size for one in outcome.measured), key=math.prod)
    request.state.resolution = resolution_bucket(*size)


def server_timing(timing: Timing) -> str:
    """The stages as the header ``Server-Timing`` has them (W3C Server Timing, section 3)."""
    return ", ".join(f"{stage};dur={ms}" for stage, ms in timing)
