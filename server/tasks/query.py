"""What the queries of all tasks share: how the model sees an image."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from vimserve.model.samples import parse_bands, parse_range
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Fit, Transform
from vimserve.server.errors import InvalidParameter

T = TypeVar("T")

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

    range: str | None = Field(
        default=None,
        description="which sample values become black and white, for samples of more than 8 bits, "
        "signed ones and floating point: two values (`0,4095`), two percentiles of the image "
        "(`p2,p98`), or `dtype`, all that their type can hold (floating point: 0 to 1); by default "
        "what the model was given, else `dtype`",
        examples=["0,4095", "p2,p98", "dtype"],
    )
    bands: str | None = Field(
        default=None,
        description="which of the image's bands are red, green and blue, or the one that is grey, "
        "counted from 1; by default what the model was given, else what the file says",
        examples=["3,2,1", "1"],
    )


def transform_for(
    spec: ModelSpec,
    query: ImageQuery,
    resolution: str | None,
    fit: Fit | None,
    max_resolution: int,
) -> Transform:
    """The model's transform, with what a request asks for instead.

    Raises:
        InvalidParameter: if ``resolution`` is neither ``native`` nor a whole number of pixels from
            1 to ``max_resolution``, or the query's ``range`` or ``bands`` cannot be read.
    """
    transform = with_samples(spec.transform, query)
    if resolution is None:
        return transform.with_request(None, fit)
    if resolution == "native":
        return transform.with_request("native", fit)
    number = int(resolution) if re.fullmatch(r"-?[0-9]{1,9}", resolution) else None
    if number is None or not 1 <= number <= max_resolution:
        raise InvalidParameter(
            f"resolution must be 'native' or a whole number of pixels from 1 to {max_resolution}, "
            f"not {resolution!r}",
            parameter="resolution",
            limit=1 if number is not None and number < 1 else max_resolution,
            value=resolution if number is None else number,
        )
    return transform.with_request(number, fit)


def with_samples(transform: Transform, query: ImageQuery) -> Transform:
    """The transform with the ``range`` and the ``bands`` that a request asks for.

    Raises:
        InvalidParameter: if one of them cannot be read.
    """
    if query.range is not None:
        transform = replace(transform, range=_parsed("range", parse_range, query.range))
    if query.bands is not None:
        transform = replace(transform, bands=_parsed("bands", parse_bands, query.bands))
    return transform


def _parsed(name: str, parse: Callable[[str], T], given: str) -> T:
    try:
        return parse(given)
    except ValueError as error:
        raise InvalidParameter(
            f"{name} must be {error}, not {given!r}",
            parameter=name,
            limit=str(error),
            value=given,
        ) from error
