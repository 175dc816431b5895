"""Reads the images in a request's body, and never holds more bytes than the limit."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.requests import Request

from vimserve.server.errors import BodyTooLarge, EmptyBody
from vimserve.server.http.encodings import coding_of, decoded
from vimserve.server.http.multipart import FileFields
from vimserve.server.images.source import EncodedImage

# Bytes of a form that are parsed at a time; other requests run in between.
FORM_PIECE_BYTES = 16_384


async def read_uploads(request: Request, max_bytes: int, max_images: int) -> list[EncodedImage]:
    """The request's images: the body itself, or the ``file`` fields of a multipart body.

    Raises:
        BodyTooLarge: more than ``max_bytes``, as sent or decoded; before reading, if
            Content-Length says so.
        TooManyImages, TooManyParts: more than ``max_images`` files, or many other fields.
        EmptyBody, MissingFile, MalformedMultipart: the body has no image.
        UnsupportedEncoding, MalformedEncoding: the Content-Encoding is another or a wrong one.
        ClientDisconnect: the client hung up.
    """
    stream = _body(request, max_bytes)
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        fields = FileFields(content_type, "file", max_images)
        async for chunk in stream:
            for start in range(0, len(chunk), FORM_PIECE_BYTES):
                fields.write(chunk[start : start + FORM_PIECE_BYTES])
                await asyncio.sleep(0)
        return [EncodedImage(bytes(data), name) for name, data in fields.finish()]
    body = bytearray()
    async for chunk in stream:
        body += chunk
    if not body:
        raise EmptyBody("the body is empty; send the bytes of an image", limit=1, value=0)
    return [EncodedImage(bytes(body))]


def _body(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body without its coding."""
    coding = coding_of(",".join(request.headers.getlist("content-encoding")))
    declared = request.headers.get("content-length", "0")
    _check_size(int(declared) if declared.isdecimal() else 0, max_bytes)
    sent = _limited(request.stream(), max_bytes)
    return sent if coding is None else _limited(decoded(sent, coding), max_bytes)


async def _limited(stream: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        _check_size(received, max_bytes)
        yield chunk


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BodyTooLarge(
            f"the body has at least {size} bytes; the limit is {max_bytes}",
            limit=max_bytes,
            value=size,
        )
