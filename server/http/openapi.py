"""The OpenAPI document, with errors in the form that the protocol of each path has."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.errors import (
    PROBLEM_JSON,
    UNFORESEEN,
    InvalidParameter,
    ServerError,
    Unauthorized,
)
from vimserve.server.http.plain_errors import PlainError, has_plain_errors, plain_error
from vimserve.server.telemetry import request_id

# Orchestrators ask these without an API key.
ALWAYS_OPEN = ("/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready")

DESCRIPTION = """Vision Mamba inference for images of any size.

Below `/v1` is the server's own API: a request's body is an image, or a form with several. Clients
of Hugging Face's task API and of the Open Inference Protocol (KServe, Triton) are answered too.
`docs/clients.md` in the source has a snippet that works as it stands for curl, for Python
(`requests`, `huggingface_hub`, `tritonclient`) and for JavaScript (`fetch`,
`@huggingface/inference`).

Whatever is refused is told with what was wrong, the limit and the value.
"""
TAGS = [
    {"name": "inference", "description": "Images in, classes or masks out."},
    {"name": "jobs", "description": "Answers that are fetched later."},
    {"name": "models", "description": "What is served."},
    {
        "name": "hugging face",
        "description": "The task API that `huggingface_hub.InferenceClient` and "
        "`@huggingface/inference` call.",
    },
    {
        "name": "open inference protocol",
        "description": "Version 2, with extensions, as KServe's and Triton's clients call it.",
    },
    {"name": "health", "description": "For orchestrators and for Prometheus."},
]

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
                "detail": "top_k must be from 1 to 1000, the number of classes, not 2000",
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


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of JSON, for a route's ``openapi_extra`` and ``responses``.

    The document has it and all that it refers to among its components.
    """
    return model.model_json_schema(ref_template=_TEMPLATE)


def refusal(description: str, *examples: ServerError) -> dict[str, Any]:
    """A response for a route's ``responses`` that refuses, in the form that its path has.

    Args:
        description: when it is answered.
        examples: some that are answered then.
    """
    headers = {name: value for error in examples for name, value in error.headers.items()}
    return {
        "description": description,
        "content": {
            PROBLEM_JSON: {"examples": {one.slug: {"value": one.problem()} for one in examples}}
        },
        "headers": {
            name: {"schema": {"type": "string"}, "example": value}
            for name, value in headers.items()
        },
    }


_INVALID = refusal(
    "A wrong parameter or header",
    InvalidParameter(
        "X-Request-Priority: must be a whole number from 1 to 9",
        parameter="X-Request-Priority",
        limit="a whole number from 1 to 9",
        value="high",
    ),
)
_UNAUTHORIZED = refusal(
    "No API key, or a wrong one",
    Unauthorized("this server does not accept the API key", parameter="Authorization"),
)
_UNAUTHORIZED["headers"]["WWW-Authenticate"] = {
    "schema": {"type": "string"},
    "example": 'Bearer realm="vimserve"',
}
_FAILED = refusal("The server failed", ServerError(UNFORESEEN))


def operation_id(route: APIRoute) -> str:
    """A name for the operation that no other route has: its function's, behind its dialect's."""
    dialect = "v2_" if route.path.startswith("/v2") else "hub_"
    version = "_of_version" if "{version}" in route.path else ""
    return (dialect if has_plain_errors(route.path) else "") + route.name + version


def openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with our errors in place of its validation errors."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (Problem, PlainError):
        schemas[model.__name__] = json_schema(model)
    document["components"]["securitySchemes"] = {"key": _KEY}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _complete(path, operation)
            for body in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media in body.get("content", {}).values():
                    media["schema"] = _as_component(media["schema"], schemas)
    app.openapi_schema = document
    return document


def _as_component(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to a schema that ``json_schema`` made, or another schema as it is."""
    schemas.update(schema.pop("$defs", {}))
    if "properties" not in schema or "title" not in schema:
        return schema
    schemas[schema["title"]] = schema
    return {"$ref": _TEMPLATE.format(model=schema["title"])}


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Document what any route may answer, in the form that this one's path has."""
    plain = has_plain_errors(path)
    responses = operation["responses"]
    if responses.get("422", {}).get("description") == "Validation Error":  # FastAPI's
        del responses["422"]
        if any(known["in"] != "path" for known in operation["parameters"]):
            responses.setdefault("400" if plain else "422", _INVALID)
    responses.setdefault("500", _FAILED)
    if path not in ALWAYS_OPEN:
        operation["security"] = [{"key": []}, {}]
        responses.setdefault("401", _UNAUTHORIZED)
    operation["responses"] = {
        status: _described(response, plain) if status >= "400" else response
        for status, response in sorted(responses.items())
    }
    for response in operation["responses"].values():
        response["headers"] = {request_id.HEADER: _REQUEST_ID} | response.get("headers", {})


def _described(response: dict[str, Any], plain: bool) -> dict[str, Any]:
    """An error; with a body of its own it stays as it is."""
    content = response.get("content", {})
    if any("schema" in media for media in content.values()):
        return response
    problems = content.get(PROBLEM_JSON, {}).get("examples", {})
    name = (PlainError if plain else Problem).__name__
    body: dict[str, Any] = {"schema": {"$ref": _TEMPLATE.format(model=name)}}
    if problems:
        body["examples"] = {
            slug: {"value": plain_error(one["value"]) if plain else one["value"]}
            for slug, one in problems.items()
        }
    return {**response, "content": {"application/json" if plain else PROBLEM_JSON: body}}


def parameters(app: FastAPI, path: str, method: str, place: str) -> list[str]:
    """The names that an operation accepts in ``place``, which is ``query`` or ``header``."""
    operation = app.openapi()["paths"][path][method.lower()]
    return [known["name"] for known in operation.get("parameters", []) if known["in"] == place]
