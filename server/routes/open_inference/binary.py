"""The binary tensor extension: JSON, then the tensors' bytes; little-endian, without padding."""

import re
from collections.abc import Iterable, Sequence

from vimserve.server.routes.errors import MalformedRequest

HEADER = "Inference-Header-Content-Length"
# The little-endian length before every element of a BYTES tensor.
LENGTH_BYTES = 4


def split(body: bytes | bytearray, header: str | None) -> tuple[memoryview, memoryview]:
    """The JSON of a body and the bytes behind it.

    Args:
        body: without its coding.
        header: value of ``HEADER``; None if there is none, and so no bytes behind the JSON.

    Raises:
        MalformedRequest: the header is no length, or longer than the body.
    """
    view = memoryview(body)
    if header is None:
        return view, view[len(view) :]
    if not re.fullmatch(r"[0-9]{1,18}", header):
        raise MalformedRequest(
            f"{HEADER} must be the length of the JSON in bytes, not {header[:40]!r}",
            parameter=HEADER,
            limit="a whole number",
            value=header[:40],
        )
    length = int(header)
    if length > len(view):
        raise MalformedRequest(
            f"{HEADER} is {length}, but the body has only {len(view)} bytes",
            parameter=HEADER,
            limit=len(view),
            value=length,
        )
    return view[:length], view[length:]


def read_elements(data: memoryview, count: int) -> list[bytes]:
    """The elements of a BYTES tensor.

    Raises:
        MalformedRequest: the data is not ``count`` elements with their lengths.
    """
    elements = []
    start = 0
    for i in range(count):
        begin = start + LENGTH_BYTES
        end = begin + int.from_bytes(data[start:begin], "little")
        if end > len(data):
            raise MalformedRequest(
                f"element {i} of the BYTES tensor ends at byte {end} of its data, which has "
                f"{len(data)}: each element is a length of {LENGTH_BYTES} bytes, little-endian, "
                "and so many bytes",
                parameter="image",
                limit=len(data),
                value=end,
            )
        elements.append(bytes(data[begin:end]))
        start = end
    if start != len(data):
        raise MalformedRequest(
            f"{count} elements of the BYTES tensor take {start} bytes; its data has {len(data)}",
            parameter="image",
            limit=start,
            value=len(data),
        )
    return elements


def write_elements(texts: Iterable[str]) -> bytes:
    """A BYTES tensor of texts in UTF-8."""
    elements = [text.encode() for text in texts]
    return b"".join(
        part
        for element in elements
        for part in (len(element).to_bytes(LENGTH_BYTES, "little"), element)
    )


def join(json: bytes, blobs: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """A body of JSON and bytes, and the headers that tell them apart."""
    headers = {HEADER: str(len(json))} if blobs else {}
    return b"".join((json, *blobs)), headers
