"""Several models on the same images, side by side."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from model.catalog import ModelSpec
from server.engine.engine import Engine
from server.errors import InvalidParameter, UnknownModel
from server.pipeline import Pipeline, Task
from server.routes.dependencies import RequestOptions, Service, admitted
from server.routes.documents import IMAGE_BODY, PROBLEMS
from server.schemas import ComparedModel, CompareQuery, CompareResponse
from server.uploads import Upload
from server.waiting import finish, receive

router = APIRouter(prefix="/v1")


@router.post(
    "/compare",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=PROBLEMS,
    response_model_exclude_none=True,
    dependencies=[Depends(admitted)],
)
async def compare(
    request: Request,
    pipeline: Service,
    options: RequestOptions,
    query: Annotated[CompareQuery, Query()],
) -> CompareResponse:
    """Send the same images through several models, one model after another."""
    request.state.task = "compare"
    names = list(pipeline.engine.models) if query.models is None else query.models.split(",")
    tasks = [pipeline.plan(_spec(pipeline.engine, name), query, options) for name in names]
    _check_several(names, pipeline.engine)
    config = pipeline.config
    uploads = await receive(request, options, config.max_body_bytes, config.max_images)
    return await finish(request, _run(pipeline, tasks, uploads), options)


async def _run(
    pipeline: Pipeline, tasks: Sequence[Task], uploads: Sequence[Upload]
) -> CompareResponse:
    compared = []
    for task in tasks:
        answer = await pipeline.classify(task, uploads)
        lengths = [result.input.tokens for result in answer.results]
        memory_bytes = task.model.memory.predict(lengths)
        compared.append(ComparedModel(**dict(answer), memory_bytes=memory_bytes))
    return CompareResponse(compared=compared)


def _spec(engine: Engine, name: str) -> ModelSpec:
    try:
        return engine.spec(name)
    except UnknownModel as error:
        error.parameter = "models"
        raise


def _check_several(names: Sequence[str], engine: Engine) -> None:
    if len(set(names)) < max(len(names), 2):
        raise InvalidParameter(
            f"a comparison needs at least two different models, not {', '.join(names)}",
            parameter="models",
            limit=list(engine.models),
            value=",".join(names),
        )
