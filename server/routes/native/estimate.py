"""``GET /v1/estimate``: what an image would cost, before it is sent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from vimserve.server.engine.models import does
from vimserve.server.errors import InvalidParameter
from vimserve.server.routes.dependencies import RequestUrgency, Service
from vimserve.server.routes.documents import PROBLEMS
from vimserve.server.routes.native.schemas import to_ms
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.numbers import whole_number

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: PROBLEMS[status] for status in (404, 413, 422, 429, 503)
}

router = APIRouter(prefix="/v1")

Side = Annotated[int, Field(ge=1), BeforeValidator(whole_number(1))]


class ImageSize(BaseModel):
    """Of which image, and of which model."""

    model_config = ConfigDict(extra="forbid")

    height: Side = Field(description="of the upright image, in pixels", examples=[1248])
    width: Side = Field(description="of the upright image, in pixels", examples=[832])
    model: str | None = Field(
        default=None, description="one of `GET /v1/models`; by default the first of them"
    )


def _parameters() -> Iterator[tuple[str, Any]]:
    """What the queries of all tasks have, as text, which the model's task then reads."""
    tasks = {name: task.query.model_json_schema()["properties"] for name, task in TASKS.items()}
    for name in dict.fromkeys(name for schemas in tasks.values() for name in schemas):
        known = {task: schemas[name] for task, schemas in tasks.items() if name in schemas}
        told = {task: schema["description"] for task, schema in known.items()}
        if len({*told.values()}) > 1 or len(told) < len(TASKS):
            told = {task: f"`{task}`: {text}" for task, text in told.items()}
        description = "; ".join(dict.fromkeys(told.values()))
        text = Annotated[str | None, WithJsonSchema(_either([*known.values()]))]
        yield name, (text, Field(default=None, description=description))


def _either(schemas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of what one of these accepts."""
    kinds = [kind for schema in schemas for kind in schema.get("anyOf", [schema])]
    told = ("title", "description", "default", "examples")
    bare = [{key: value for key, value in kind.items() if key not in told} for kind in kinds]
    examples = [example for schema in schemas for example in schema.get("examples", [])]
    different = [kind for i, kind in enumerate(bare) if kind not in bare[:i]]
    return {"anyOf": different} | ({"examples": [*dict.fromkeys(examples)]} if examples else {})


EstimateQuery = create_model(
    "EstimateQuery",
    __base__=ImageSize,
    __doc__="What `GET /v1/estimate` may be asked.",
    **dict(_parameters()),
)


class EstimatedInput(BaseModel):
    """What the model would see of the image, as in the task's own answer."""

    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    tokens: int = Field(description="of all windows, class tokens included")


class EstimateResponse(BaseModel):
    """What a request with one image of this size is expected to cost now."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo-seg",
                "input": {"height": 512, "width": 768, "tokens": 3072},
                "windows": 3,
                "tokens": 3072,
                "inference_ms": 341.2,
                "queue_ms": 0.0,
                "peak_memory_bytes": 52_428_800,
            }
        }
    )

    model: str
    input: EstimatedInput
    windows: int = Field(description="parts in which the model would see the image")
    tokens: int = Field(description="of all windows")
    inference_ms: float | None = Field(
        description="of batches with nothing else in them, learnt from those that have run; null "
        "before the model's first one"
    )
    queue_ms: float = Field(
        description="until the device has run what goes before this request now; what nothing is "
        "known of counts as none"
    )
    peak_memory_bytes: int = Field(
        description="of the device above the weights, at most, in a batch with nothing else in it; "
        "from measurements at start-up"
    )


@router.get("/estimate", tags=["inference"], responses=REFUSALS)
async def estimate(
    request: Request,
    pipeline: Service,
    urgency: RequestUrgency,
    query: Annotated[EstimateQuery, Query()],  # type: ignore[valid-type]
) -> EstimateResponse:
    """Predict what a request would cost, or why it would be refused.

    Takes the parameters and headers that the request would have. What only the file itself tells,
    such as damage or a band that it does not have, is not known yet.
    """
    given = query.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
    height, width, name = (given.pop(key, None) for key in ImageSize.model_fields)
    engine = pipeline.engine
    spec = engine.models.find(name or engine.models.default()).spec
    request.state.model = spec.name
    task = TASKS[spec.task]
    accepted = [*ImageSize.model_fields, *task.query.model_fields]
    for parameter, value in given.items():
        if parameter not in accepted:
            raise InvalidParameter(
                f"model {spec.name!r} {does(spec.task)}; it has no parameter {parameter}",
                parameter=parameter,
                limit=accepted,
                value=value,
            )
    model = engine.loaded(spec.name)
    plan = task.plan(spec, task.ask(given), pipeline.config.max_resolution)
    expected = pipeline.estimate(model, plan, (height, width), urgency)
    seen, seconds = expected.seen, expected.forecast.inference_s
    return EstimateResponse(
        model=spec.name,
        input=EstimatedInput(height=seen.size[0], width=seen.size[1], tokens=seen.tokens),
        windows=len(seen.views),
        tokens=seen.tokens,
        inference_ms=None if seconds is None else to_ms(seconds),
        queue_ms=to_ms(expected.forecast.queue_s),
        peak_memory_bytes=expected.peak_bytes,
    )
