"""Who the server is, what its models are, and whether they are ready."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from vimserve import __version__
from vimserve.server.engine.engine import State
from vimserve.server.engine.loading import Status
from vimserve.server.routes.dependencies import ServerState, Service
from vimserve.server.routes.open_inference.inputs import SHAPES
from vimserve.server.routes.open_inference.messages import DataType
from vimserve.server.routes.open_inference.outputs import outputs_of
from vimserve.server.routes.open_inference.paths import (
    PREFIX,
    UNKNOWN,
    VERSION,
    ModelName,
    of_model,
)

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]

router = APIRouter(prefix=PREFIX)


class ServerMetadata(BaseModel):
    """Who answers."""

    name: str = Field(examples=["vimserve"])
    version: str = Field(examples=[__version__])
    extensions: list[str] = Field(examples=[EXTENSIONS])


class Live(BaseModel):
    """Whether the server can answer at all."""

    live: bool = Field(examples=[True])


class Ready(BaseModel):
    """Whether the server, or the model of that name, is ready."""

    name: str | None = Field(default=None, examples=["demo"])
    ready: bool = Field(examples=[True])


class TensorKind(BaseModel):
    """The type and the shape of a tensor; -1 is any number."""

    datatype: DataType
    shape: list[int] = Field(examples=[[-1]])


class TensorMetadata(TensorKind):
    """A tensor that a model takes or has.

    Attributes:
        alternatives: other types in which it may come.
    """

    name: str
    alternatives: list[TensorKind] | None = None


class ModelMetadata(BaseModel):
    """What a model takes and has."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "demo",
                "versions": [VERSION],
                "platform": "vim_classify",
                "inputs": [
                    {
                        "name": "image",
                        "datatype": "BYTES",
                        "shape": [-1],
                        "alternatives": [
                            {"datatype": "UINT8", "shape": [-1, -1, -1, 3]},
                            {"datatype": "FP32", "shape": [-1, 3, -1, -1]},
                        ],
                    }
                ],
                "outputs": [
                    {"name": "logits", "datatype": "FP32", "shape": [-1, 20]},
                    {"name": "scores", "datatype": "FP32", "shape": [-1, 20]},
                    {"name": "labels", "datatype": "BYTES", "shape": [-1]},
                ],
            }
        }
    )

    name: str
    versions: list[str] = Field(examples=[[VERSION]])
    platform: str = Field(description="its family and task", examples=["vim_classify"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@router.get("", response_model=ServerMetadata)
async def server_metadata() -> dict[str, Any]:
    """Who answers, and which extensions of the protocol there are."""
    return {"name": "vimserve", "version": __version__, "extensions": EXTENSIONS}


@router.get(
    "/health/live",
    response_model=Live,
    responses={503: {"description": "The worker is dead or stuck", "model": Live}},
)
async def live(pipeline: Service) -> JSONResponse:
    """Whether the process can still answer; if not, restart it."""
    ok = pipeline.engine.health().ok
    return JSONResponse({"live": ok}, 200 if ok else 503)


@router.get(
    "/health/ready",
    response_model=Ready,
    response_model_exclude_none=True,
    responses={
        503: {"description": "Models are loading, or the server is stopping", "model": Ready}
    },
)
async def ready(state: ServerState) -> JSONResponse:
    """Whether the models are loaded and warm, and the server is not stopping."""
    ok = state is State.READY
    return JSONResponse({"ready": ok}, 200 if ok else 503)


@of_model(
    router.get,
    "/ready",
    response_model=Ready,
    responses={503: {"description": "The model is loading or failed", "model": Ready}, **UNKNOWN},
)
async def model_ready(pipeline: Service, model: ModelName) -> JSONResponse:
    """Whether a model is ready."""
    served = pipeline.engine.models.find(model)
    ok = served.status is Status.READY and pipeline.engine.state is State.READY
    return JSONResponse({"name": model, "ready": ok}, 200 if ok else 503)


@of_model(
    router.get, response_model=ModelMetadata, response_model_exclude_none=True, responses=UNKNOWN
)
async def model_metadata(pipeline: Service, model: ModelName) -> dict[str, Any]:
    """What a model takes and has."""
    spec = pipeline.engine.models.find(model).spec
    kinds = [
        {
            "datatype": datatype,
            "shape": [side if isinstance(side, int) else -1 for side in shape],
        }
        for datatype, shape in SHAPES.items()
    ]
    return {
        "name": spec.name,
        "versions": [VERSION],
        "platform": f"{spec.family}_{spec.task}",
        "inputs": [{"name": "image", **kinds[0], "alternatives": kinds[1:]}],
        "outputs": [
            {"name": output.name, "datatype": output.datatype, "shape": output.shape(spec)}
            for output in outputs_of(spec)
        ],
    }
