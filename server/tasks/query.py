"""What the queries of all tasks share: the size at which the model sees an image."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Fit, Transform
from vimserve.server.errors import InvalidParameter

Resolution = Annotated[
    str | None,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"const": "native"}],
            "examples": [224, "native"],
        }
    ),
]


class ImageQuery(BaseModel):
    """Query parameters of a task; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid")


def transform_for(
    spec: ModelSpec, resolution: str | None, fit: Fit | None, max_resolution: int
) -> Transform:
    """The model's transform, with the ``resolution`` and ``fit`` of a request.

    Raises:
        InvalidParameter: if ``resolution`` is neither ``native`` nor a whole number of pixels from
            1 to ``max_resolution``.
    """
    if resolution is None:
        return spec.transform.with_request(None, fit)
    if resolution == "native":
        return spec.transform.with_request("native", fit)
    number = int(resolution) if re.fullmatch(r"-?[0-9]{1,9}", resolution) else None
    if number is None or not 1 <= number <= max_resolution:
        raise InvalidParameter(
            f"resolution must be 'native' or a whole number of pixels from 1 to {max_resolution}, "
            f"not {resolution!r}",
            parameter="resolution",
            limit=1 if number is not None and number < 1 else max_resolution,
            value=resolution if number is None else number,
        )
    return spec.transform.with_request(number, fit)
