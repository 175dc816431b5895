"""The OpenAPI document, with its errors as problems (RFC 9457)."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.errors import PROBLEM_JSON
from vimserve.server.http.plain_errors import PlainError, has_plain_errors
from vimserve.server.telemetry import request_id

# Orchestrators ask these without an API key.
ALWAYS_OPEN = ("/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready")

_REQUEST_ID = {
    "description": "what the client called its request, or the name that the server gave it",
    "schema": {"type": "string"},
    "example": "0b0f5d9c1c2f4f0e8a4e2d6f3f0d6a11",
}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, if the server was started with any",
}
_TEMPLATE = "#/components/schemas/{model}"


class Problem(BaseModel):
    """A failure (RFC 9457): what was wrong, what is accepted and what was found."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:vimserve:problem:invalid-parameter",
                "title": "Invalid parameter",
                "status": 422,
                "detail": "top_k must be at most 1000, the number of classes, not 2000",
                "parameter": "top_k",
                "limit": 1000,
                "value": 2000,
                "request_id": "0b0f5d9c1c2f4f0e8a4e2d6f3f0d6a11",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    parameter: str | None = Field(
        default=None, description="query parameter, header or form field at fault"
    )
    limit: Any = Field(default=None, description="what is accepted: a bound, or the choices")
    value: Any = Field(default=None, description="what the request had")
    file: str | None = Field(
        default=None, description="the upload at fault, in a multipart request"
    )
    retry_after_s: int | None = Field(
        default=None, description="seconds after which the same request may succeed, as Retry-After"
    )
    request_id: str | None = Field(
        default=None, description="name of the request in the server's log, as X-Request-Id"
    )


def openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with our errors in place of its validation errors."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (Problem, PlainError):
        schemas[model.__name__] = model.model_json_schema(ref_template=_TEMPLATE)
    document["components"]["securitySchemes"] = {"key": _KEY}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path not in ALWAYS_OPEN:
                operation["security"] = [{"key": []}, {}]
                operation["responses"]["401"] = {"description": "No API key, or a wrong one"}
            for status, response in operation["responses"].items():
                response.setdefault("headers", {})[request_id.HEADER] = _REQUEST_ID
                if int(status) >= 400 and ("content" not in response or status == "422"):
                    response["content"] = _error_content(path)
    app.openapi_schema = document
    return document


def _error_content(path: str) -> dict[str, Any]:
    plain = has_plain_errors(path)
    name = (PlainError if plain else Problem).__name__
    schema = {"$ref": _TEMPLATE.format(model=name)}
    return {"application/json" if plain else PROBLEM_JSON: {"schema": schema}}


def parameters(app: FastAPI, path: str, method: str, place: str) -> list[str]:
    """The names that an operation accepts in ``place``, which is ``query`` or ``header``."""
    operation = app.openapi()["paths"][path][method.lower()]
    return [known["name"] for known in operation.get("parameters", []) if known["in"] == place]
