"""The body of a Hugging Face task: an image as it is, or JSON with one in base64."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vimserve.server.http.openapi import json_schema
from vimserve.server.images.source import EncodedImage
from vimserve.server.routes.documents import BINARY, IMAGE_BASE64
from vimserve.server.routes.json_body import parse_json, read_base64

# No image begins so. Clients often send no Content-Type, or a wrong one.
_OBJECT = b"{"


class TaskRequest(BaseModel):
    """An image and what to do with it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"inputs": IMAGE_BASE64, "parameters": {"top_k": 3}}},
    )

    inputs: str = Field(
        description="the image's bytes in base64, or a `data:` URI of that; never a URL or a path"
    )
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="of an image classification: `top_k`, `function_to_apply`; of an image "
        "segmentation: `subtask`, `threshold`, `mask_threshold`, `overlap_mask_area_threshold`; "
        "of an object detection: `threshold`, and `subtask` for the objects' masks; and what "
        "`POST /v1/classify`, `POST /v1/segment` and `POST /v1/detect` call `resolution`, `fit`, "
        "`range`, `bands`, `mode`, `window` and `max_detections`",
    )
    options: dict[str, Any] | None = Field(
        default=None, description="such as `wait_for_model`; they have no effect here"
    )


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The image's bytes, or JSON; which of them, the bytes themselves tell.",
        "content": {
            "image/*": BINARY,
            "application/octet-stream": BINARY,
            "application/json": {"schema": json_schema(TaskRequest)},
        },
    }
}


def read_task(body: bytearray) -> tuple[EncodedImage, dict[str, Any]]:
    """The image and the parameters that have a value.

    Raises:
        MalformedRequest, BodyTooLarge: as ``parse_json`` and ``read_base64``.
    """
    if body[:64].lstrip()[:1] != _OBJECT:
        return EncodedImage(bytes(body)), {}
    request = parse_json(body, TaskRequest)
    given = request.parameters or {}
    image = EncodedImage(read_base64(request.inputs, "inputs"))
    return image, {name: value for name, value in given.items() if value is not None}
