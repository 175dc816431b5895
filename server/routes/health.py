"""For orchestrators and for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from server.engine.engine import State
from server.schemas import Status

router = APIRouter(tags=["health"])


@router.get(
    "/healthz", response_model=Status, responses={503: {"description": "Its worker has died"}}
)
async def healthz(request: Request) -> JSONResponse:
    """Whether the process can still answer; if not, restart it."""
    alive = request.app.state.engine.alive
    return JSONResponse({"status": "alive" if alive else "dead"}, 200 if alive else 503)


@router.get(
    "/readyz",
    response_model=Status,
    responses={503: {"description": "Models are loading, or the server is stopping"}},
)
async def readyz(request: Request) -> JSONResponse:
    """Whether the models are loaded and warm."""
    state = request.app.state.engine.state
    return JSONResponse({"status": state}, 200 if state is State.READY else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format."""
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
