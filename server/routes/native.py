"""The server's own interface, below /v1."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from server.errors import UploadTimeout
from server.metrics import resolution_bucket
from server.pipeline import Pipeline
from server.schemas import ClassifyQuery, ClassifyResponse, ModelInfo, ModelList, TransformInfo
from server.uploads import Upload, read_uploads
from server.waiting import finish

router = APIRouter(prefix="/v1")

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of an image (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF; the format "
        "is read from the bytes, not from the Content-Type), or a form with one or more files.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The multipart body is malformed"},
    404: {"description": "No such model"},
    408: {"description": "The body did not arrive in time"},
    413: {"description": "Too many bytes, pixels, tokens or images"},
    415: {"description": "Not an image in a supported format"},
    422: {"description": "A wrong parameter, an empty body, a damaged image"},
    429: {"description": "The model's queue is full; see Retry-After"},
    500: {"description": "The model failed"},
    503: {"description": "The models are loading, or the server is stopping; see Retry-After"},
    504: {"description": "No answer in time"},
}


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


Service = Annotated[Pipeline, Depends(_pipeline)]


@router.post(
    "/classify",
    tags=["inference"],
    openapi_extra=_BODY,
    responses=_PROBLEMS,
    response_model_exclude_none=True,
)
async def classify(
    request: Request, pipeline: Service, query: Annotated[ClassifyQuery, Query()]
) -> ClassifyResponse:
    """Name what is in one or more images."""
    request.state.task = "classify"
    spec = pipeline.engine.spec(query.model)
    request.state.model = spec.name
    task = pipeline.plan(spec, query)
    uploads = await _receive(request, pipeline)
    response = await finish(
        request, pipeline.classify(task, uploads), pipeline.config.request_timeout
    )
    inputs = [result.input for result in response.results]
    largest = max(inputs, key=lambda shape: shape.height * shape.width)
    request.state.resolution = resolution_bucket(largest.height, largest.width)
    return response


@router.get("/models", tags=["models"])
async def models(pipeline: Service) -> ModelList:
    """The models that are served, the default first."""
    engine, config = pipeline.engine, pipeline.config
    return ModelList(
        models=[
            ModelInfo(
                name=spec.name,
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
            for spec in engine.specs.values()
        ]
    )


async def _receive(request: Request, pipeline: Pipeline) -> list[Upload]:
    config = pipeline.config
    try:
        async with asyncio.timeout(config.request_timeout):
            return await read_uploads(request, config.max_body_bytes, config.max_images)
    except TimeoutError as error:
        raise UploadTimeout(
            f"the body did not arrive within {config.request_timeout:g} s",
            limit=config.request_timeout,
            value=config.request_timeout,
        ) from error
