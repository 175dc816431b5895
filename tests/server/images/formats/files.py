"""Files made byte by byte, for what encoders do not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body=b"", damage=0):
    """A PNG chunk, whose checksum is wrong by ``damage``."""
    checksum = zlib.crc32(kind + body) ^ damage
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(width, height, depth, colour, rows, *before, after=b"", cuts=1, level=6, interlace=0):
    """A PNG of packed rows, with chunks before its data, which lie in ``cuts`` chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), level)
    step = -(-len(data) // cuts)
    pieces = (chunk(b"IDAT", data[i : i + step]) for i in range(0, len(data), step))
    start = SIGNATURE + chunk(b"IHDR", header) + b"".join(before)
    return start + b"".join(pieces) + after + chunk(b"IEND")


def packed(samples, depth):
    """Rows of a PNG whose samples, ``[H, W]`` or ``[H, W, C]``, have this depth."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def interlaced(samples, depth):
    """The same rows in the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in [*passes, (1, 0, 2, 1)]]
    return [row for part in parts if part.shape[1] for row in packed(part, depth)]


def grey_png(*before, after=b"", cuts=1, shade=77):
    """A grey PNG of 24 × 40 pixels."""
    return png(40, 24, 8, 0, [bytes([shade]) * 40] * 24, *before, after=after, cuts=cuts)


def segment(marker, body=b""):
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(side=64, colour=(200, 90, 30), **options):
    """A JPEG of one colour."""
    return encoded(Image.new("RGB", (side, side), colour), "JPEG", **options)


def with_empty_scans(data, count):
    """A progressive JPEG with more scans, which have no data."""
    last = data.rfind(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, last + 2)
    return data[:-2] + data[last : last + 2 + length] * count + data[-2:]


def exif(orientation, order=">"):
    """EXIF whose only entry is an orientation."""
    mark = b"MM" if order == ">" else b"II"
    head = mark + struct.pack(f"{order}HI", 42, 8)
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}H", 1) + entry + bytes(4)
