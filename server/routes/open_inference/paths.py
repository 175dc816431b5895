"""The paths of a model, with a version and without."""

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from vimserve.server.routes.errors import UnknownVersion

VERSION = "1"  # of every model: what is loaded in its place has the same
PREFIX = "/v2"
MODEL = "/models/{model}"
VERSIONED = f"{MODEL}/versions/{{version}}"
# FastAPI documents only parameters that a route's function has.
VERSIONED_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "version",
            "in": "path",
            "required": True,
            "description": f"always {VERSION}",
            "schema": {"type": "string", "examples": [VERSION]},
        }
    ]
}


async def _model(
    request: Request,
    model: Annotated[str, Path(description="one of `GET /v1/models`", examples=["demo"])],
) -> str:
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
