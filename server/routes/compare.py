"""Several models on the same images, side by side."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from vimserve.server.engine.engine import Engine
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.urgency import Options
from vimserve.server.errors import InvalidParameter, UnknownModel, WrongTask
from vimserve.server.http.uploads import Upload
from vimserve.server.http.waiting import finish, receive
from vimserve.server.pipeline import Pipeline
from vimserve.server.routes.dependencies import RequestOptions, Service, admitted
from vimserve.server.routes.documents import IMAGE_BODY, PROBLEMS
from vimserve.server.schemas import (
    ComparedClassifier,
    ComparedSegmenter,
    CompareQuery,
    CompareResponse,
    SegmentInput,
)
from vimserve.server.tasks import classify, segment
from vimserve.server.tasks.plan import Task

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
    models = _models(pipeline.engine, query.models)
    config = pipeline.config
    tasks = [_plan(model, query, options, config.max_resolution) for model in models]
    uploads = await receive(request, options, config.max_body_bytes, config.max_images)
    return await finish(request, _run(pipeline, tasks, uploads), options)


async def _run(
    pipeline: Pipeline, tasks: Sequence[Task[Any]], uploads: Sequence[Upload]
) -> CompareResponse:
    compared = []
    for task in tasks:
        spec = task.model.runner.spec
        outcome = await pipeline.run(task, uploads)
        lengths = [tokens for one in outcome.measured for tokens in one.lengths]
        kind: Any = ComparedClassifier if spec.task == "classify" else ComparedSegmenter
        compared.append(
            kind(
                model=spec.name,
                results=outcome.results,
                timing_ms=outcome.timing,
                batch=outcome.batch,
                memory_bytes=task.model.memory.predict(lengths),
            )
        )
    return CompareResponse.model_validate({"compared": compared})


def _plan(model: Loaded, query: CompareQuery, options: Options, max_resolution: int) -> Task[Any]:
    if model.runner.spec.task == "classify":
        return classify.plan(model, query, options, max_resolution)
    for name, value, limit in (("top_k", query.top_k, None), ("fit", query.fit, "contain")):
        if value not in (None, limit):
            raise InvalidParameter(
                f"{name}={value} is for models that classify, {model.runner.spec.name!r} segments",
                parameter=name,
                limit=limit,
                value=value,
            )
    seen = SegmentInput(resolution=query.resolution)
    return segment.plan(model, seen, options, max_resolution)


def _models(engine: Engine, given: str | None) -> list[Loaded]:
    """The models to compare, which are there for the same task."""
    task = next(iter(engine.models.values())).spec.task
    names = [name for name, served in engine.models.items() if served.spec.task == task]
    if given is not None:
        names = given.split(",")
        first = engine.models.get(names[0])
        task = first.spec.task if first else task
    try:
        models = [engine.loaded(engine.spec(name, task).name) for name in names]
    except (UnknownModel, WrongTask) as error:
        error.parameter = "models"
        raise
    if len(set(names)) < max(len(names), 2):
        raise InvalidParameter(
            f"a comparison needs at least two different models, not {', '.join(names)}",
            parameter="models",
            limit=list(engine.models),
            value=",".join(names),
        )
    return models
