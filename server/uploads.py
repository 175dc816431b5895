"""The images in a request's body, read without ever holding more than the limit."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.errors import BodyTooLarge, EmptyBody, MalformedMultipart, MissingFile, TooManyImages


@dataclass(frozen=True)
class Upload:
    """An image file; ``name`` is None where it was the whole body."""

    data: bytes
    name: str | None = None


async def read_uploads(request: Request, max_bytes: int, max_images: int) -> list[Upload]:
    """The body itself, or the ``file`` fields of a multipart body.

    Raises:
        BodyTooLarge: more than ``max_bytes``, before reading where Content-Length says so.
        TooManyImages: more than ``max_images`` files.
        EmptyBody, MissingFile, MalformedMultipart: nothing to look at.
        ClientDisconnect: the client left.
    """
    stream = _limited(request, max_bytes)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
        "multipart/form-data"
    ):
        body = bytearray()
        async for chunk in stream:
            body += chunk
        if not body:
            raise EmptyBody("the body is empty; send the bytes of an image", limit=1, value=0)
        return [Upload(bytes(body))]
    return await _read_multipart(request, stream, max_images)


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
            f"the body has {size} bytes or more, the limit is {max_bytes}",
            limit=max_bytes,
            value=size,
        )


class _Parser(MultiPartParser):
    spool_max_size = 0  # all in memory, as raw bodies are: the limit on bytes bounds both


async def _read_multipart(
    request: Request, stream: AsyncGenerator[bytes, None], max_images: int
) -> list[Upload]:
    try:
        form = await _Parser(request.headers, stream, max_files=max_images, max_fields=100).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise TooManyImages(
                f"more than {max_images} files in one request",
                limit=max_images,
                value=max_images + 1,
                parameter="file",
            ) from error
        raise MalformedMultipart(
            f"the multipart body cannot be read: {error.message}",
            limit="multipart/form-data (RFC 7578)",
            value=error.message,
        ) from error
    files = [item for item in form.getlist("file") if isinstance(item, UploadFile)]
    if not files:
        raise MissingFile(
            "the multipart body has no file in a field named 'file'",
            parameter="file",
            limit=1,
            value=0,
        )
    return [
        Upload(await file.read(), file.filename or f"file {number}")
        for number, file in enumerate(files, 1)
    ]
