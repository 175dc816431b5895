"""Answers every error, ours and the frameworks', with a problem (RFC 9457).

On paths of protocols that have errors of another form, these are answered.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from vimserve.server.errors import (
    PROBLEM_JSON,
    UNFORESEEN,
    InvalidParameter,
    ServerError,
    problem,
)
from vimserve.server.http.openapi import parameters
from vimserve.server.http.plain_errors import has_plain_errors, plain_error_response
from vimserve.server.http.root_path import own_path
from vimserve.server.telemetry import request_id
from vimserve.server.telemetry.metrics import Metrics

CLIENT_CLOSED_REQUEST = 499


def add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Register a handler for each kind of exception."""

    @app.exception_handler(ServerError)
    async def _ours(request: Request, error: ServerError) -> Response:
        metrics.rejected.labels(error.slug).inc()
        return error_response(request.scope, error.problem(), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        # A misspelt name also leaves the right one missing.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        return await _ours(request, _invalid(request, first))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        members = problem(error.status_code, error.detail)
        headers = dict(error.headers or {})
        if "Allow" in headers:
            headers["Allow"] = ", ".join(_methods(request))
        return error_response(request.scope, members, headers)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        metrics.rejected.labels("client-gone").inc()
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    # Runs outside all middleware, so the request id must be added here. uvicorn then closes the
    # connection.
    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _error: Exception) -> Response:
        metrics.rejected.labels(ServerError.slug).inc()
        name = request_id.current.get()
        return error_response(
            request.scope,
            ServerError(UNFORESEEN).problem(),
            {"Connection": "close"} | ({} if name is None else {request_id.HEADER: name}),
        )


def error_response(
    scope: Scope, members: dict[str, Any], headers: Mapping[str, str] | None
) -> JSONResponse:
    """The response to the problem with these members, in the form that the request's path has."""
    if has_plain_errors(own_path(scope)):
        return plain_error_response(members, headers)
    return problem_response(members, headers)


def problem_response(members: dict[str, Any], headers: Mapping[str, str] | None) -> JSONResponse:
    """The response whose body is the problem with these members."""
    return JSONResponse(members, members["status"], headers=headers, media_type=PROBLEM_JSON)


def _methods(request: Request) -> list[str]:
    """Of all routes that have the request's path; the framework names those of one route."""
    routes = request.app.routes
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(r.matches({**request.scope, "method": method})[0] is Match.FULL for r in routes)
    ]


def _invalid(request: Request, error: dict[str, Any]) -> InvalidParameter:
    problem = InvalidParameter.of(error)
    if error["type"] == "extra_forbidden":
        path, place = request.scope["route"].path, error["loc"][0]
        problem.limit = parameters(request.app, path, request.method, place)
    return problem
