"""Reads the images in a request's body, and never holds more bytes than the limit."""

from collections.abc import AsyncGenerator

from starlette.requests import Request

from vimserve.server.errors import BodyTooLarge, EmptyBody
from vimserve.server.http.multipart import FileFields
from vimserve.server.images.source import EncodedImage


async def read_uploads(request: Request, max_bytes: int, max_images: int) -> list[EncodedImage]:
    """The request's images: the body itself, or the ``file`` fields of a multipart body.

    Raises:
        BodyTooLarge: more than ``max_bytes``; before reading, if Content-Length says so.
        TooManyImages: more than ``max_images`` files.
        EmptyBody, MissingFile, MalformedMultipart: the body has no image.
        ClientDisconnect: the client hung up.
    """
    stream = _limited(request, max_bytes)
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        fields = FileFields(content_type, "file", max_images)
        async for chunk in stream:
            fields.write(chunk)
        return [EncodedImage(bytes(data), name) for name, data in fields.finish()]
    body = bytearray()
    async for chunk in stream:
        body += chunk
    if not body:
        raise EmptyBody("the body is empty; send the bytes of an image", limit=1, value=0)
    return [EncodedImage(bytes(body))]


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "0")
    _check_size(int(declared) if declared.isdecimal() else 0, max_bytes)
    received = 0
    async for chunk in request.stream():
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
