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
def _samples() -> list[Image.Image]:
    files = sorted(file for file in SAMPLES.iterdir() if file.suffix in (".jpg", ".png"))
    return [Image.open(file).convert("RGB") for file in files]


def _encode(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()
