"""The model repository extension: which models there are, and loading and unloading them."""

import logging
from enum import StrEnum
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.engine.loading import Status
from vimserve.server.engine.models import Models
from vimserve.server.errors import (
    EmptyBody,
    ModelUnavailable,
    ServerError,
    UnknownModel,
)
from vimserve.server.http.openapi import json_schema, refusal
from vimserve.server.http.uploads import read_body
from vimserve.server.http.waiting import receive
from vimserve.server.pipeline import Pipeline
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import PLAIN_ERRORS
from vimserve.server.routes.errors import Forbidden, MalformedRequest
from vimserve.server.routes.json_body import parse_json
from vimserve.server.routes.open_inference.paths import PREFIX, VERSION, Name

logger = logging.getLogger(__name__)

_MALFORMED: dict[int | str, dict[str, Any]] = {
    400: refusal(
        "The request is not what the protocol says", MalformedRequest("the body is no JSON")
    ),
    **{status: PLAIN_ERRORS[status] for status in (408, 413, 415)},
}
_CHANGED: dict[int | str, dict[str, Any]] = {
    **_MALFORMED,
    403: refusal(
        "The server was started without `--model-control`",
        Forbidden("models are not loaded or unloaded by clients without --model-control"),
    ),
    404: PLAIN_ERRORS[404],
    503: refusal(
        "The model cannot be loaded, or is just being loaded or removed",
        ModelUnavailable("model 'demo' is loading"),
    ),
}

router = APIRouter(prefix=f"{PREFIX}/repository")
M = TypeVar("M", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IndexRequest(_Body):
    """Which models to list."""

    model_config = ConfigDict(json_schema_extra={"example": {"ready": True}})

    ready: bool = Field(default=False, strict=True, description="only those that are ready")


class LoadRequest(_Body):
    """Nothing that a client could choose; Triton's `config` and `file:…` are refused."""

    model_config = ConfigDict(json_schema_extra={"example": {}})

    parameters: dict[str, Any] = Field(default_factory=dict, description="must be empty")


class UnloadParameters(_Body):
    """How to unload."""

    unload_dependents: bool = Field(default=False, strict=True, description="no model has any")


class UnloadRequest(_Body):
    """How to unload a model."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"parameters": {"unload_dependents": False}}}
    )

    parameters: UnloadParameters = Field(default_factory=UnloadParameters)


class ModelState(StrEnum):
    """Where a model is in its life."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class IndexedModel(BaseModel):
    """A model that is served or can be loaded."""

    name: str = Field(examples=["demo"])
    version: str = Field(examples=[VERSION])
    state: ModelState = Field(examples=[ModelState.READY])
    reason: str = Field(description="why it is unavailable, else empty", examples=[""])


class Changed(BaseModel):
    """What was done."""

    name: str = Field(examples=["demo"])
    state: ModelState = Field(examples=[ModelState.READY])


def _documented(form: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": json_schema(form)}}
    return {"requestBody": {"required": False, "content": content}}


@router.post(
    "/index",
    responses=_MALFORMED,
    openapi_extra=_documented(IndexRequest),
)
async def index(request: Request, pipeline: Service, urgency: RequestUrgency) -> list[IndexedModel]:
    """The models that are served, and those that can be loaded again."""
    wanted = await receive(_read(request, pipeline, IndexRequest), urgency)
    models = pipeline.engine.models
    listed = [_indexed(models, name) for name in dict.fromkeys((*models.repository, *models))]
    return [one for one in listed if one.state is ModelState.READY or not wanted.ready]


async def _allowed(pipeline: Service) -> None:
    if not pipeline.config.model_control:
        raise Forbidden("models are not loaded or unloaded by clients without --model-control")
    pipeline.engine.check_ready()


_MAY_CHANGE = [Depends(_allowed), Depends(admitted)]


@router.post(
    "/models/{model}/load",
    responses=_CHANGED,
    openapi_extra=_documented(LoadRequest),
    dependencies=_MAY_CHANGE,
)
async def load(
    request: Request, pipeline: Service, urgency: RequestUrgency, model: Name
) -> Changed:
    """Load a model that was unloaded, or read its weights again while it keeps answering."""
    chosen = await receive(_read(request, pipeline, LoadRequest), urgency)
    if chosen.parameters:
        raise MalformedRequest(
            "a client can load what the server was started with, and cannot choose its files or "
            f"configuration; parameters must be empty, without {', '.join(chosen.parameters)[:80]}",
            parameter="parameters",
        )
    models = pipeline.engine.models
    if model not in models and model not in models.repository:
        raise UnknownModel(
            f"no model {model[:40]!r} can be loaded; choose one of {', '.join(models.repository)}",
            parameter="model",
            limit=[*models.repository],
            value=model,
        )
    try:
        await _load(models, model)
    except ServerError:
        raise
    except Exception as error:
        logger.exception("model %s cannot be loaded", model)
        raise ModelUnavailable(
            f"model {model!r} cannot be loaded: {error}", parameter="model", value=model
        ) from error
    return Changed(name=model, state=ModelState.READY)


@router.post(
    "/models/{model}/unload",
    responses=_CHANGED,
    openapi_extra=_documented(UnloadRequest),
    dependencies=_MAY_CHANGE,
)
async def unload(
    request: Request, pipeline: Service, urgency: RequestUrgency, model: Name
) -> Changed:
    """Unload a model once its accepted requests are answered."""
    await receive(_read(request, pipeline, UnloadRequest), urgency)
    await pipeline.engine.models.remove(model)
    logger.info("model %s is unloaded", model)
    return Changed(name=model, state=ModelState.UNAVAILABLE)


async def _load(models: Models, name: str) -> None:
    if name in models and models[name].status is not Status.FAILED:
        await models.reload(name)
        logger.info("model %s has its weights anew", name)
        return
    if name in models:
        await models.remove(name)
    await models.add(models.repository[name])
    logger.info("model %s is loaded", name)


async def _read(request: Request, pipeline: Pipeline, form: type[M]) -> M:
    """The request's body; an empty one has every default."""
    try:
        return parse_json(await read_body(request, pipeline.config.max_body_bytes), form)
    except EmptyBody:
        return form()


def _indexed(models: Models, name: str) -> IndexedModel:
    state, reason = ModelState.UNAVAILABLE, "unloaded"
    if name in models:
        served = models[name]
        reason = served.detail or ""
        if served.status is not Status.FAILED:
            state = ModelState(served.status.upper())
    return IndexedModel(name=name, version=VERSION, state=state, reason=reason)
