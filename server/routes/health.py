"""Routes for orchestrators and for Prometheus."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.engine.engine import State
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.openapi import refusal
from vimserve.server.routes.dependencies import ServerState, Service

FORMATS = ("text/plain", "application/openmetrics-text")
_METRICS = """# HELP vimserve_requests_total Requests answered
# TYPE vimserve_requests_total counter
vimserve_requests_total{model="demo",status="200",task="classify"} 12.0
"""

router = APIRouter(tags=["health"])


class HealthQuery(BaseModel):
    """What `GET /healthz` may be asked; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid")

    probe: bool = Field(
        default=False,
        description="also run an image through every model that is ready",
        examples=[True],
    )


class Health(BaseModel):
    """Whether the server can answer at all."""

    status: Literal["alive", "dead"] = Field(examples=["alive"])
    detail: str = Field(description="what is wrong, if it is dead", examples=["alive"])


class ModelStatus(BaseModel):
    """Where a model is in its life."""

    status: str = Field(description="`loading`, `ready`, `unloading` or `failed`")
    detail: str | None = Field(default=None, description="why it failed")


class Readiness(BaseModel):
    """Whether requests for inference are answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ready",
                "models": {
                    "demo": {"status": "ready"},
                    "mine": {"status": "failed", "detail": "mine.pth: truncated"},
                },
            }
        }
    )

    status: str = Field(description="`loading`, `ready`, `stopping` or `failed`")
    models: dict[str, ModelStatus]


@router.get(
    "/healthz",
    response_model=Health,
    responses={
        422: refusal(
            "A wrong parameter",
            InvalidParameter(
                "probe: Input should be a valid boolean, unable to interpret input",
                parameter="probe",
                limit=[True, False],
                value="maybe",
            ),
        ),
        503: {"description": "The worker is dead or stuck", "model": Health},
    },
)
async def healthz(request: Request, query: Annotated[HealthQuery, Query()]) -> JSONResponse:
    """Whether the process can still answer; if not, restart it."""
    health = request.app.state.engine.health()
    failure = None if health.ok else health.detail
    if failure is None and query.probe:
        failure = await request.app.state.probe.failure()
    body = Health(status="alive" if failure is None else "dead", detail=failure or health.detail)
    return JSONResponse(body.model_dump(), 200 if failure is None else 503)


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={
        503: {"description": "Models are loading, or the server is stopping", "model": Readiness}
    },
)
async def readyz(pipeline: Service, state: ServerState) -> JSONResponse:
    """Whether the models are loaded and warm, and the server is not stopping."""
    body = Readiness(
        status=state,
        models={
            name: ModelStatus(status=served.status, detail=served.detail)
            for name, served in pipeline.engine.models.items()
        },
    )
    return JSONResponse(body.model_dump(exclude_none=True), 200 if state is State.READY else 503)


# Not async, because reading the memory of a GPU may wait for its driver.
@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "content": {
                kind: {"schema": {"type": "string"}, "example": _METRICS} for kind in FORMATS
            }
        }
    },
)
def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format, or, with exemplars, in OpenMetrics'."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    registry = request.app.state.metrics.registry
    return Response(encode(registry), headers={"Content-Type": content_type, "Vary": "Accept"})
