"""Reads JSON that a client sent: strictly, and no more of it than the event loop has time for."""

import binascii
import re
import reprlib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from vimserve.server.errors import BodyTooLarge
from vimserve.server.routes.errors import MalformedRequest

# Each costs some 50 ns and up to 32 bytes. An image of 512×512 has 786,432.
MOST_VALUES = 2**20
_DATA_URI = re.compile(r"data:[\w/+.;=-]*;base64,", re.IGNORECASE)

M = TypeVar("M", bound=BaseModel)


def parse_json(text: bytes | bytearray | memoryview, form: type[M]) -> M:
    """The object that the text describes.

    Raises:
        MalformedRequest: it is no JSON, or not of this form.
        BodyTooLarge: it has more than ``MOST_VALUES``.
    """
    text = bytes(text)
    values = text.count(b",") + 1
    if values > MOST_VALUES:
        raise BodyTooLarge(
            f"the JSON has about {values} values; the limit is {MOST_VALUES}: send the image's "
            "bytes instead",
            limit=MOST_VALUES,
            value=values,
        )
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedRequest(
            f"the body is no JSON: {error}", limit="JSON (RFC 8259)", value=str(error)
        ) from error
    return validated(form, value)


def validated(form: type[M], value: Any, prefix: str = "") -> M:
    """The value, which came as JSON, in this form.

    Args:
        form: its schema.
        value: what was parsed.
        prefix: of its place, for the error.

    Raises:
        MalformedRequest: it has another form; the error names the place.
    """
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise _invalid(error, prefix) from error


def read_base64(text: str, parameter: str) -> bytes:
    """What is encoded in base64 (RFC 4648) or in a ``data:`` URI of it; never what a URL leads to.

    Raises:
        MalformedRequest: it is neither.
    """
    prefix = _DATA_URI.match(text)
    coded = "".join((text[prefix.end() :] if prefix else text).split())
    try:
        return binascii.a2b_base64(coded.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise MalformedRequest(
            f"{parameter} must be an image in base64, or a data: URI of that; it is neither a URL "
            f"nor a path, and {reprlib.repr(text)} is none ({error})",
            parameter=parameter,
            limit="base64 (RFC 4648)",
            value=reprlib.repr(text),
        ) from error


def _invalid(error: ValidationError, prefix: str) -> MalformedRequest:
    first = error.errors(include_url=False)[0]
    place = prefix + ".".join(map(str, first["loc"])) or "the body"
    message, value = first["msg"], reprlib.repr(first["input"])
    if first["type"] == "extra_forbidden":
        message = "there is no such name"
    elif first["type"] != "missing":
        message = f"{message}, not {value}"
    return MalformedRequest(f"{place}: {message}", parameter=place, value=value)
