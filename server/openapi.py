"""The OpenAPI document, whose errors are problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.errors import PROBLEM_JSON
from server.schemas import Problem

_TEMPLATE = "#/components/schemas/{model}"


def openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with its own validation errors replaced by ours."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template=_TEMPLATE)
    reference = {"schema": {"$ref": _TEMPLATE.format(model="Problem")}}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path.startswith("/v1"):
                    response["content"] = {PROBLEM_JSON: reference}
    return document


if __name__ == "__main__":
    import json

    from server.app import create_app
    from server.config import ServerConfig

    print(json.dumps(create_app(ServerConfig()).openapi(), indent=2, ensure_ascii=False))
