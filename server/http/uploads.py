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
# A body may be sent in so many chunks, each of which costs some microseconds.
MAX_CHUNKS = 65_536
# Where the server's protocol counts them in a request's scope, the empty last one included.
CHUNKS = "vimserve.chunks"


async def read_uploads(request: Request, max_bytes: int, max_images: int) -> list[EncodedImage]:
    """The request's images: the body itself, or the ``file`` fields of a multipart body.

    Raises:
        BodyTooLarge: more than ``max_bytes``, as sent or decoded; before reading, if
            Content-Length says so; or more than ``MAX_CHUNKS``.
        TooManyImages, TooManyParts: more than ``max_images`` files, or many other fields.
        EmptyBody, MissingFile, MalformedMultipart: the body has no image.
        UnsupportedEncoding, MalformedEncoding: the Content-Encoding is another or a wrong one.
        ClientDisconnect: the client hung up.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        fields = FileFields(content_type, "file", max_images)
        async for chunk in _body(request, max_bytes):
            for start in range(0, len(chunk), FORM_PIECE_BYTES):
                fields.write(chunk[start : start + FORM_PIECE_BYTES])
                await asyncio.sleep(0)
        return [EncodedImage(bytes(data), name) for name, data in fields.finish()]
    return [EncodedImage(bytes(await read_body(request, max_bytes)))]


async def read_body(request: Request, max_bytes: int) -> bytearray:
    """The whole body, without its coding.

    Raises:
        BodyTooLarge, UnsupportedEncoding, MalformedEncoding, ClientDisconnect: as ``read_uploads``.
        EmptyBody: it has no bytes.
    """
    body = bytearray()
    async for chunk in _body(request, max_bytes):
        body += chunk
    if not body:
        raise EmptyBody("the body is empty; send the bytes of an image", limit=1, value=0)
    return body


def declared_bytes(request: Request) -> int:
    """The body's bytes as they are sent, if the request says how many; else 0."""
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _body(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body without its coding."""
    coding = coding_of(",".join(request.headers.getlist("content-encoding")))
    _check_size(declared_bytes(request), max_bytes)
    sent = _limited(_in_few_chunks(request), max_bytes)
    return sent if coding is None else _limited(decoded(sent, coding), max_bytes)


async def _in_few_chunks(request: Request) -> AsyncGenerator[bytes, None]:
    async for piece in request.stream():
        chunks = request.scope.get(CHUNKS, 0)
        if chunks > MAX_CHUNKS + 1:
            raise BodyTooLarge(
                f"the body comes in at least {chunks} chunks; the limit is {MAX_CHUNKS}, so send "
                "larger ones",
                limit=MAX_CHUNKS,
                value=chunks,
            )
        yield piece


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
