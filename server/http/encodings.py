"""Decodes what a request's Content-Encoding says (RFC 9110) while the bytes arrive."""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from vimserve.server.errors import MalformedEncoding, UnsupportedEncoding

# zlib's ``wbits``: 31 is gzip's format (RFC 1952), 15 zlib's (RFC 1950), -15 bare deflate.
_QUICK = 1
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# Bytes that are decoded at a time; other requests run in between.
PIECE_BYTES = 65_536
# A gzip file may have several members. An empty one has 20 bytes, and each costs a decoder.
MOST_MEMBERS = 1000


def coding_of(content_encoding: str) -> str | None:
    """The one coding of a body, or None if it is sent as it is.

    Args:
        content_encoding: value of the header, or of all of them with commas.

    Raises:
        UnsupportedEncoding: another coding, or several.
    """
    named = [coding.strip().lower() for coding in content_encoding.split(",")]
    codings = [coding for coding in named if coding not in ("", "identity")]
    if not codings:
        return None
    if len(codings) == 1 and codings[0] in _WINDOWS:
        return codings[0]
    raise UnsupportedEncoding(
        f"a body with Content-Encoding: {', '.join(codings)} is not decoded; send it as gzip, as "
        "deflate, or without a coding",
        parameter="Content-Encoding",
        limit=UnsupportedEncoding.accepted,
        value=content_encoding,
    )


async def decoded(stream: AsyncIterator[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """The bytes before they were coded, at most ``PIECE_BYTES`` at a time.

    Raises:
        MalformedEncoding: they were not coded so, or some are missing.
    """
    decoder = _Decoder(coding)
    async for chunk in stream:
        for piece in decoder.pieces(chunk):
            yield piece
            await asyncio.sleep(0)
    decoder.finish()


def accepted_coding(accept_encoding: str) -> str | None:
    """The coding of an answer that a client wants by this Accept-Encoding, gzip before deflate."""
    wanted = set()
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        if not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight):
            wanted.add(name.strip())
    return next((coding for coding in ("gzip", "deflate") if coding in wanted), None)


def encode(body: bytes, coding: str) -> bytes:
    """The body in a coding that ``accepted_coding`` named, with little effort."""
    encoder = zlib.compressobj(_QUICK, wbits=_WINDOWS[coding])
    return encoder.compress(body) + encoder.flush()


class _Decoder:
    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._members = 0
        self._member: zlib._Decompress | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._member is None:
                if self._members:
                    data = data.lstrip(b"\0")  # a gzip file may be padded
                if not data:
                    return
                self._member = self._begin(data)
            member = self._member
            while piece := self._inflate(member, data):
                yield piece
                data = member.unconsumed_tail
            if not member.eof:
                return
            data, self._member = member.unused_data, None

    def finish(self) -> None:
        if self._member is not None:
            raise self._malformed("it ends before its last byte")

    def _begin(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > (1 if self._coding == "deflate" else MOST_MEMBERS):
            raise self._malformed("it goes on behind its end")
        # Some clients leave out the header that deflate has. Its low four bits are 8; a block that
        # is not compressed, the only one to begin so, has zeros for padding in that place.
        if self._coding == "deflate" and data[0] & 0x0F != zlib.DEFLATED:
            return zlib.decompressobj(-_WINDOWS["deflate"])
        return zlib.decompressobj(_WINDOWS[self._coding])

    def _inflate(self, member: "zlib._Decompress", data: bytes) -> bytes:
        try:
            return member.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise self._malformed(str(error)) from error

    def _malformed(self, reason: str) -> MalformedEncoding:
        return MalformedEncoding(
            f"the body cannot be decoded as its Content-Encoding, {self._coding}: {reason}",
            parameter="Content-Encoding",
            limit=self._coding,
            value=reason,
        )
