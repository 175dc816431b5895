"""The paths of a model, with a version and without."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request

from vimserve.server.http.openapi import refusal
from vimserve.server.routes.documents import NO_MODEL
from vimserve.server.routes.errors import UnknownVersion

VERSION = "1"  # of every model: what is loaded in its place has the same
PREFIX = "/v2"
_MODEL = "/models/{model}"
_VERSIONED = f"{_MODEL}/versions/{{version}}"
# FastAPI documents only parameters that a route's function has.
_VERSION_PARAMETER: dict[str, Any] = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": f"always {VERSION}",
    "schema": {"type": "string", "examples": [VERSION]},
}

UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: refusal(
        "No such model, or another version",
        NO_MODEL,
        UnknownVersion(f"model 'demo' has no version '2', only {VERSION!r}"),
    )
}

F = TypeVar("F", bound=Callable[..., Any])


Name = Annotated[str, Path(description="one of `GET /v1/models`", examples=["demo"])]


async def _model(request: Request, model: Name) -> str:
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise UnknownVersion(
            f"model {model!r} has no version {version[:40]!r}, only {VERSION!r}",
            parameter="version",
            limit=VERSION,
            value=version,
        )
    return model


ModelName = Annotated[str, Depends(_model)]


def of_model(
    method: Callable[..., Callable[[F], F]], path: str = "", **options: Any
) -> Callable[[F], F]:
    """Register a route below a model's path, with a version and without.

    Args:
        method: a router's, such as ``router.get``.
        path: below the model's.
        options: of the route, as FastAPI has them.
    """
    extra = options.pop("openapi_extra", {})
    parameters = [_VERSION_PARAMETER, *extra.get("parameters", [])]

    def register(route: F) -> F:
        method(_VERSIONED + path, openapi_extra={**extra, "parameters": parameters}, **options)(
            route
        )
        return method(_MODEL + path, openapi_extra=extra, **options)(route)

    return register
