"""PNG: the chunks that make the pixels, and the samples that are transparent.

Format: PNG Specification, 3rd edition (https://www.w3.org/TR/png-3/).
"""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from vimserve.server.images.cost import STRIP_PIXELS
from vimserve.server.images.formats.essence import Essence, Pieces
from vimserve.server.images.formats.exif import orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3
END = b"\0\0\0\0IEND\xaeB`\x82"


def essence(data: bytes) -> Essence:
    """The image's own chunks, with its data in a single one.

    Text, profiles and all other ancillary chunks are left out unread, as are those of them that
    matter here but have a wrong checksum; so is an animation's every frame but the default image.

    Raises:
        ImageTooComplex: more chunks than the file's size justifies.
    """
    chunks: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    position, pieces = len(SIGNATURE), Pieces("chunks", len(data))
    declared, ended = 0, False
    while position + 8 <= len(data) and not ended:
        pieces.count()
        length, kind = struct.unpack_from(">I4s", data, position)
        after = position + 12 + length
        if kind == b"IDAT":
            pixels.append(data[position + 8 : after - 4])
            declared += length
        elif kind in (b"IHDR", b"PLTE", b"tRNS", b"eXIf"):
            _keep(chunks, kind, data[position:after], late=bool(pixels))
        # The data of an animation's other frames are the last of what matters.
        ended = kind in (b"IEND", b"fdAT")
        position = after
    header = chunks.get(b"IHDR", b"")
    colour = header[17] if len(header) == 25 else None
    kinds = (b"IHDR", b"PLTE") + ((b"tRNS",) if colour == PALETTE else ())
    kept = b"".join(chunks[kind] for kind in kinds if kind in chunks)
    body = b"IDAT" + b"".join(pixels)
    stored = struct.pack(">I", declared) + body + struct.pack(">I", zlib.crc32(body))
    return Essence(
        SIGNATURE + kept + (stored if pixels else b"") + (END if ended else b""),
        orientation(chunks.get(b"eXIf", b"")[8:-4]),
        clear=_clear(header, chunks.get(b"tRNS", b"")[8:-4]),
    )


def whiten(image: Image.Image, essence: Essence) -> None:
    """Make the samples white, in place, that the file calls transparent."""
    depth = essence.data[24]
    if essence.clear is None:
        return
    if depth == 1:
        if essence.clear == (0,):
            image.paste(255, (0, 0, *image.size))
        return
    low = _low_bytes(essence) if depth == 16 and image.mode == "RGB" else None
    # Pillow scales fewer than 8 bits to 8, and keeps the higher byte of 16 in colours.
    scale = 255 // (2**depth - 1) if depth < 8 else 1
    clear = np.array(essence.clear) * scale
    high = clear >> 8 if low else clear
    for box in _strips(image):
        samples = np.array(image.crop(box))
        found = samples == (high if samples.ndim == 3 else high[0])
        if low:
            found &= np.asarray(low.crop(box)) == clear & 255
        samples[found.all(axis=2) if samples.ndim == 3 else found] = np.iinfo(samples.dtype).max
        image.paste(Image.fromarray(samples), box)


def _keep(chunks: dict[bytes, bytes], kind: bytes, chunk: bytes, *, late: bool) -> None:
    if kind in chunks or (kind != b"eXIf" and late):
        return
    if kind in (b"IHDR", b"PLTE") or chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4])):
        chunks[kind] = chunk


def _clear(header: bytes, transparency: bytes) -> tuple[int, ...] | None:
    if len(header) != 25 or header[17] not in (GREY, RGB):
        return None
    samples = 3 if header[17] == RGB else 1
    if len(transparency) < 2 * samples:
        return None
    # The bits above the depth have no meaning.
    mask = 2 ** header[16] - 1
    return tuple(value & mask for value in struct.unpack_from(f">{samples}H", transparency))


def _low_bytes(essence: Essence) -> Image.Image:
    """The lower bytes of 16-bit colours: Pillow finds them where the higher would be in the other
    byte order.
    """
    with Image.open(BytesIO(essence.data), formats=("PNG",)) as image:
        assert isinstance(image, ImageFile)  # noqa: S101, for mypy
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        image.load()
        return image


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    rows = max(STRIP_PIXELS // image.width, 1)
    tops = range(0, image.height, rows)
    return [(0, top, image.width, min(top + rows, image.height)) for top in tops]
