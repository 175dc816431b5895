"""``POST /v1/compare``: several models on the same images."""

from collections.abc import Sequence
from functools import partial, reduce
from operator import or_
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, SerializeAsAny, create_model

from vimserve.model.transform import Fit
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.models import does
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import InvalidParameter, UnknownModel, WrongTask
from vimserve.server.http.waiting import exchange
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Pipeline
from vimserve.server.routes.dependencies import RequestUrgency, Service, admitted
from vimserve.server.routes.documents import IMAGE_BODY, PROBLEMS
from vimserve.server.routes.native import RENDERINGS
from vimserve.server.routes.native.schemas import BatchInfo, Timing
from vimserve.server.tasks.classify import ClassifyQuery
from vimserve.server.tasks.detect import DetectQuery
from vimserve.server.tasks.query import ImageQuery, Resolution
from vimserve.server.tasks.task import Plan

router = APIRouter(prefix="/v1")


class CompareQuery(ClassifyQuery, DetectQuery):
    """What `POST /v1/compare` may be asked."""

    resolution: Resolution = Field(default=None, description="as for the task alone")
    fit: Fit | None = Field(  # type: ignore[assignment]
        default=None, description="as for the task alone", examples=["contain"]
    )
    models: str | None = Field(
        default=None,
        description="names of `GET /v1/models`, with commas between them, all for one task; by "
        "default all for the task of the first",
        examples=["vim-tiny,deit-tiny"],
    )


_Compared: Any = reduce(or_, (list[one.compared] for one in RENDERINGS.values()))  # type: ignore[name-defined]
CompareResponse = create_model(
    "CompareResponse",
    __doc__="The same images through several models, one model after another.",
    compared=(SerializeAsAny[_Compared], ...),  # type: ignore[misc] # as the masks of a Detection
)
_EXAMPLES = {
    task: {
        "value": {
            "compared": [
                one.compared.model_json_schema()["example"] | needs
                for needs in (
                    {"model": "vim-tiny", "memory_bytes": 7_340_032},
                    {"model": "deit-tiny", "memory_bytes": 9_437_184},
                )
            ]
        }
    }
    for task, one in RENDERINGS.items()
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"examples": _EXAMPLES}}}
}


@router.post(
    "/compare",
    tags=["inference"],
    openapi_extra=IMAGE_BODY,
    responses=_ANSWER | PROBLEMS,
    response_model=CompareResponse,
    dependencies=[Depends(admitted)],
)
async def compare(
    request: Request,
    pipeline: Service,
    urgency: RequestUrgency,
    query: Annotated[CompareQuery, Query()],
) -> Response:
    """Send the same images through several models, one model after another."""
    request.state.task = "compare"
    models = _models(pipeline.engine, query.models)
    config = pipeline.config
    given = query.model_dump(exclude={"models"}, exclude_defaults=True)
    asked = [(model, *_plan(model, given, config.max_resolution)) for model in models]

    async def work(images: Sequence[Source]) -> BaseModel:
        return await _run(pipeline, asked, images, urgency)

    body = await exchange(request, urgency, config, work)
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


async def _run(
    pipeline: Pipeline,
    asked: Sequence[tuple[Loaded, ImageQuery, Plan[Any]]],
    images: Sequence[Source],
    urgency: Urgency,
) -> BaseModel:
    compared = []
    for model, query, plan in asked:
        spec = model.runner.spec
        rendering = RENDERINGS[spec.task]
        render = partial(rendering.result, spec, query)
        completed = await pipeline.run(model, plan, images, urgency, render)
        lengths = [tokens for one in completed.measured for tokens in one.lengths]
        compared.append(
            rendering.compared(
                model=spec.name,
                results=completed.results,
                timing_ms=Timing.of(completed.stages),
                batch=BatchInfo.of(completed.batch),
                memory_bytes=model.predict_peak(lengths),
            )
        )
    return CompareResponse.model_validate({"compared": compared})


def _plan(
    model: Loaded, given: dict[str, Any], max_resolution: int
) -> tuple[ImageQuery, Plan[Any]]:
    spec = model.runner.spec
    task = RENDERINGS[spec.task].task
    for name, value in given.items():
        known = name in task.query.model_fields
        choices = task.choices(name) if known else ()
        if not known or (choices and value not in choices):
            raise InvalidParameter(
                f"model {spec.name!r} {does(task.name)}; it does not accept {name}={value}",
                parameter=name,
                limit=next(iter(choices), None),
                value=value,
            )
    query = task.ask(given)
    return query, task.plan(spec, query, max_resolution)


def _models(engine: Engine, given: str | None) -> list[Loaded]:
    """The models to compare, which all have the same task."""
    task = engine.models[engine.models.default()].spec.task
    names = [name for name, served in engine.models.items() if served.spec.task == task]
    if given is not None:
        names = given.split(",")
        first = engine.models.get(names[0])
        task = first.spec.task if first else task
    try:
        models = [engine.loaded(engine.models.spec(name, task).name) for name in names]
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
