"""The server's own interface, below /v1."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from server.metrics import resolution_bucket
from server.routes.dependencies import RequestOptions, Service, admitted
from server.routes.documents import IMAGE_BODY, PROBLEMS
from server.schemas import ClassifyQuery, ClassifyResponse, ModelInfo, ModelList, TransformInfo
from server.waiting import finish, receive

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
    spec = pipeline.engine.spec(query.model)
    request.state.model = spec.name
    task = pipeline.plan(spec, query, options)
    config = pipeline.config
    uploads = await receive(request, options, config.max_body_bytes, config.max_images)
    response = await finish(request, pipeline.classify(task, uploads), options)
    inputs = [result.input for result in response.results]
    largest = max(inputs, key=lambda shape: shape.height * shape.width)
    request.state.resolution = resolution_bucket(largest.height, largest.width)
    return response


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
