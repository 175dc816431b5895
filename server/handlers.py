"""Every error, our own and the frameworks', as a problem (RFC 9457)."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from server.errors import PROBLEM_JSON, InvalidParameter, ServerError, problem
from server.metrics import Metrics

CLIENT_CLOSED_REQUEST = 499
_BOUNDS = ("ge", "gt", "le", "lt", "expected")


def add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Register a handler for each kind of exception."""

    @app.exception_handler(ServerError)
    async def _ours(_request: Request, error: ServerError) -> Response:
        metrics.rejected.labels(error.slug).inc()
        wait = error.retry_after_s
        return _answer(error.problem(), {} if wait is None else {"Retry-After": str(wait)})

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return await _ours(request, _invalid(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return _answer(problem(error.status_code, error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        metrics.rejected.labels("client-gone").inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, _error: Exception) -> Response:
        return _answer(problem(500, "the server failed; its log says why"))


def _answer(body: dict[str, Any], headers: Any = None) -> JSONResponse:
    return JSONResponse(body, body["status"], headers=headers, media_type=PROBLEM_JSON)


def _invalid(error: dict[str, Any]) -> InvalidParameter:
    parameter = str(error["loc"][-1])
    context = error.get("ctx", {})
    limit = next((context[bound] for bound in _BOUNDS if bound in context), None)
    unknown = error["type"] == "extra_forbidden"
    message = "there is no such parameter" if unknown else error["msg"]
    return InvalidParameter(
        f"{parameter}: {message}", parameter=parameter, limit=limit, value=error["input"]
    )
