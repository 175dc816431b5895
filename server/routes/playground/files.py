"""The playground's files by name, and how they are sent."""

import gzip
import json
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePath

from fastapi.responses import Response

from vimserve.server.http.encodings import accepted_coding
from vimserve.server.routes.playground import samples

PREFIX = "/playground/"
SAMPLE_LIST, SAMPLES, THUMBNAILS = "samples.json", "samples/", "thumbnails/"
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# Everything is loaded from this server, nothing is written into the page as markup or as a script.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A browser keeps the files, but asks each time whether they are still the same.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_STATIC = files(__package__) / "static"


class File:
    """A file of the playground.

    Args:
        name: what it is called, whose ending tells the media type.
        content: its bytes.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.content = content
        self.media_type = MEDIA_TYPES[PurePath(name).suffix]
        self._tag = sha256(content).hexdigest()[:32]
        # Photographs are compressed already.
        photograph = self.media_type in ("image/jpeg", "image/png")
        self._packed = None if photograph else gzip.compress(content, mtime=0)

    def response(self, accept_encoding: str, if_none_match: str) -> Response:
        """The file as a client takes it, or 304 if the client has it."""
        headers, content = dict(HEADERS), self.content
        # A tag stands for the very bytes that are sent (RFC 9110, section 8.8.3).
        tag = f'"{self._tag}"'
        if self._packed is not None and accepted_coding(accept_encoding) == "gzip":
            content, tag = self._packed, f'"{self._tag}-gzip"'
            headers["Content-Encoding"] = "gzip"
        headers["ETag"] = tag
        known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
        if known & {tag, "*"}:
            headers.pop("Content-Encoding", None)
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, headers=headers, media_type=self.media_type)


def names() -> list[str]:
    """All files; the page loads samples and their thumbnails by their names in ``samples.json``."""
    pictures = [folder + name for folder in (SAMPLES, THUMBNAILS) for name in samples.names()]
    return [*sorted(file.name for file in _STATIC.iterdir()), SAMPLE_LIST, *pictures]


@cache
def find(name: str) -> File:
    """The file of that name, which must be one of ``names()``."""
    if name == SAMPLE_LIST:
        return File(name, json.dumps(samples.names()).encode())
    if name.startswith(SAMPLES):
        return File(name, samples.read(name.removeprefix(SAMPLES)))
    if name.startswith(THUMBNAILS):
        # Whatever the sample is, its thumbnail is a JPEG; browsers go by the media type.
        return File("thumbnail.jpg", samples.thumbnail(name.removeprefix(THUMBNAILS)))
    return File(name, (_STATIC / name).read_bytes())
