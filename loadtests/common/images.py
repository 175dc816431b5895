"""Image files to send, good and bad; the same seed gives the same bytes."""

import io
import random
import struct
import zlib
from functools import cache
from pathlib import Path

from PIL import Image

from vimserve.model import demo

SAMPLES = Path(demo.__path__[0], "samples")

BOMB_SIZE = (10_000, 20_000)
PIECES = 200_000
SCANS, SCANNED_SIDE = 1_500, 4_000
PROFILES, PROFILE_BYTES = 500, 2**20
PNG_HEADER_BYTES = 33
STRIP_WIDTH = 1_000_000


def intact(height: int, width: int, seed: int, file_format: str = "JPEG") -> bytes:
    """A good file in ``file_format``, one that Pillow writes: one of the demo's sample images,
    resized and perhaps mirrored.
    """
    choice = random.Random(seed)  # noqa: S311, nobody needs to be unable to guess it
    picture = _samples()[choice.randrange(len(_samples()))]
    if choice.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _encode(picture.resize((width, height), Image.Resampling.BICUBIC), file_format)


def truncated(height: int, width: int, seed: int, file_format: str = "JPEG") -> bytes:
    """The first half of such a file."""
    data = intact(height, width, seed, file_format)
    return data[: len(data) // 2]


def no_image(num_bytes: int, seed: int) -> bytes:
    """Bytes in no format at all."""
    return b"no image" + random.Random(seed).randbytes(num_bytes)  # noqa: S311


@cache
def bomb() -> bytes:
    """A PNG that claims 200 megapixels in its header and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", BOMB_SIZE[1], BOMB_SIZE[0], 8, 2, 0, 0, 0)
    checked = header + struct.pack(">I", zlib.crc32(header))
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + checked + struct.pack(">I", 9999) + b"IDAT"
    )


@cache
def strip() -> bytes:
    """An intact PNG of 1 × 1,000,000 pixels."""
    return _encode(Image.new("RGB", (STRIP_WIDTH, 1), "teal"), "PNG")


@cache
def floods() -> tuple[bytes, ...]:
    """Small files of many formats that would cost much: scans, chunks, segments and blocks."""
    picture = Image.new("RGB", (64, 64), "teal")
    png, jpeg, gif = (_encode(picture, kind) for kind in ("PNG", "JPEG", "GIF"))
    frame = gif.index(b",", 13 + (3 << ((gif[10] & 7) + 1)))
    return (
        _scans(),
        png[:PNG_HEADER_BYTES] + _chunk(b"prVt", b"") * PIECES + png[PNG_HEADER_BYTES:],
        jpeg[:2] + b"\xff\xfe\0\2" * PIECES + jpeg[2:],
        gif[:frame] + b"\x21\xfe" + b"\1 " * PIECES + b"\0" + gif[frame:],
    )


def laden(png: bytes) -> bytes:
    """The same picture with profiles of 500 MB, which nobody needs to inflate."""
    profile = b"profile\0\0" + zlib.compress(bytes(PROFILE_BYTES), 9)
    return png[:PNG_HEADER_BYTES] + _chunk(b"iCCP", profile) * PROFILES + png[PNG_HEADER_BYTES:]


def _scans() -> bytes:
    """A JPEG with empty scans, each of which goes over all its pixels."""
    buffer = io.BytesIO()
    picture = Image.new("L", (SCANNED_SIDE, SCANNED_SIDE), 99)
    picture.save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rfind(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, last + 2)
    return data[:-2] + data[last : last + 2 + length] * SCANS + data[-2:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    checked = kind + body
    return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))


@cache
def _samples() -> list[Image.Image]:
    files = sorted(file for file in SAMPLES.iterdir() if file.suffix in (".jpg", ".png"))
    return [Image.open(file).convert("RGB") for file in files]


def _encode(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()
