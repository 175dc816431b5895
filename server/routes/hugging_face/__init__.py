"""Hugging Face's task API, as ``huggingface_hub.InferenceClient`` and huggingface.js call it."""

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from vimserve import __version__
from vimserve.server.engine.engine import State
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import NotReady
from vimserve.server.http.uploads import read_body
from vimserve.server.http.waiting import receive
from vimserve.server.pipeline import Pipeline
from vimserve.server.routes.answering import loaded_model, run
from vimserve.server.routes.dependencies import RequestUrgency, ServerState, Service, admitted
from vimserve.server.routes.documents import PLAIN_ERRORS
from vimserve.server.routes.hugging_face import classification, detection, segmentation
from vimserve.server.routes.hugging_face.body import BODY, read_task
from vimserve.server.routes.hugging_face.classification import ScoredLabel
from vimserve.server.routes.hugging_face.detection import DetectedObject
from vimserve.server.routes.hugging_face.segmentation import LabelledMask

# By the task that a model has; each module has a ``TAG`` and a function ``prepare``.
_TASKS: Mapping[str, ModuleType] = MappingProxyType(
    {module.TASK.name: module for module in (classification, segmentation, detection)}
)
_EXAMPLES = {
    "classification": {
        "value": [{"label": "golden retriever", "score": 0.871}, {"label": "cat", "score": 0.064}]
    },
    "segmentation": {"value": [{"label": "dog", "mask": "iVBORw0KGgo…"}]},
    "detection": {
        "value": [
            {
                "label": "dog",
                "score": 0.971,
                "box": {"xmin": 81, "ymin": 640, "xmax": 412, "ymax": 912},
            }
        ]
    },
}
_ANSWER: dict[str, Any] = {
    "openapi_extra": BODY,
    "response_model": list[ScoredLabel] | list[LabelledMask] | list[DetectedObject],
    "responses": {
        200: {
            "description": "What the model's task answers",
            "content": {"application/json": {"examples": _EXAMPLES}},
        },
        **PLAIN_ERRORS,
    },
    "dependencies": [Depends(admitted)],
}
_UNREADY: dict[int | str, dict[str, Any]] = {503: PLAIN_ERRORS[503]}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: PLAIN_ERRORS[404]}

router = APIRouter(tags=["hugging face"])
ModelName = Annotated[str, Path(description="one of `GET /v1/models`", examples=["demo"])]


class HubHealth(BaseModel):
    """Whether requests are answered; if not, it is an error."""

    status: str = Field(examples=["ok"])


class HubInfo(BaseModel):
    """A model and the server that runs it."""

    model_id: str = Field(examples=["demo"])
    model_dtype: str = Field(examples=["float32"])
    model_device_type: str = Field(examples=["cpu"])
    model_pipeline_tag: str = Field(examples=[classification.TAG])
    max_input_length: int = Field(description="most tokens of an image", examples=[8192])
    version: str = Field(description="of the server", examples=[__version__])


@router.post("/models/{model}", **_ANSWER)
async def ask_model(
    request: Request, pipeline: Service, urgency: RequestUrgency, model: ModelName
) -> Response:
    """Classify or segment an image, or find the objects in it, whichever the model can."""
    return await _answer(request, pipeline, urgency, model)


@router.post("/", **_ANSWER)
async def ask_default(request: Request, pipeline: Service, urgency: RequestUrgency) -> Response:
    """Ask the default model, the first of `GET /v1/models`."""
    return await _answer(request, pipeline, urgency, pipeline.engine.models.default())


@router.get("/health", responses=_UNREADY)
async def health(state: ServerState) -> HubHealth:
    """Whether the server is ready, as `InferenceClient.health_check` asks it."""
    if state is not State.READY:
        raise NotReady(f"the server is {state}", limit=State.READY, value=state)
    return HubHealth(status="ok")


@router.get("/models/{model}/health", responses=_UNKNOWN | _UNREADY)
async def model_health(pipeline: Service, model: ModelName) -> HubHealth:
    """Whether a model is ready."""
    pipeline.engine.loaded(model)
    return HubHealth(status="ok")


@router.get("/info", responses=_UNKNOWN | _UNREADY)
async def info(pipeline: Service) -> HubInfo:
    """What the default model is, as `InferenceClient.get_endpoint_info` asks it."""
    return _info(pipeline, pipeline.engine.models.default())


@router.get("/models/{model}/info", responses=_UNKNOWN | _UNREADY)
async def model_info(pipeline: Service, model: ModelName) -> HubInfo:
    """What a model is."""
    return _info(pipeline, model)


async def _answer(request: Request, pipeline: Pipeline, urgency: Urgency, name: str) -> Response:
    model = loaded_model(request, pipeline, name)
    spec, config = model.runner.spec, pipeline.config
    body = await receive(read_body(request, config.max_body_bytes), urgency)
    image, parameters = read_task(body)
    plan, render = _TASKS[spec.task].prepare(spec, parameters, config.max_resolution)
    completed = await run(request, pipeline, model, plan, [image], urgency, render)
    answer = to_json(completed.results[0], exclude_none=True)
    return Response(answer, media_type="application/json")


def _info(pipeline: Pipeline, name: str) -> HubInfo:
    model = pipeline.engine.loaded(name)
    return HubInfo(
        model_id=name,
        model_dtype=pipeline.config.model_dtype,
        model_device_type=model.runner.device.type,
        model_pipeline_tag=_TASKS[model.runner.spec.task].TAG,
        max_input_length=model.budget.tokens,
        version=__version__,
    )
