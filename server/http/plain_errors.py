"""Which paths speak protocols whose clients read ``{"error": …}`` instead of problems."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

# The Open Inference Protocol lies below /v2, and the Hugging Face task API on the other ones.
_PATHS = re.compile(r"/(v2(/.*)?|models/.*|health|info)?", re.DOTALL)


class PlainError(BaseModel):
    """A failure: what was wrong, what is accepted and what was found."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": "no model 'resnet' is served; choose one of demo, demo-seg"}
        }
    )

    error: str


def has_plain_errors(path: str) -> bool:
    """Whether failures on this path, without a proxy's prefix, are a ``PlainError``."""
    return _PATHS.fullmatch(path) is not None


def plain_error(problem: Mapping[str, Any]) -> dict[str, str]:
    """The body of a ``PlainError`` that tells a problem (RFC 9457)."""
    return {"error": problem["detail"]}


def plain_error_response(
    problem: Mapping[str, Any], headers: Mapping[str, str] | None
) -> JSONResponse:
    """The problem (RFC 9457) as these protocols have it.

    What a client has to change is 400 in them, also where its form is right but a value is not.
    """
    status = problem["status"]
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return JSONResponse(plain_error(problem), status, headers=headers)
