"""AVIF: the still image, without metadata and sequence, and the work that its frames are.

Format: ISO/IEC 14496-12 (boxes), 23008-12 (items), AV1 Image File Format
(https://aomediacodec.github.io/av1-avif/).
"""

import struct
from collections.abc import Iterator

from PIL import AvifImagePlugin

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.formats import av1
from vimserve.server.images.formats.essence import Essence, Pieces

# Decoded planes of up to 2 bytes for each of 4 samples, and two copies as RGBA.
OVERHEAD = 12
# Of a full box: a version and flags.
FULL = 4

# libavif would take all cores for one image.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def essence(data: bytes) -> Essence:
    """The file with its sequence and its EXIF hidden from the decoder.

    The orientation is that of the item's own properties, which Pillow turns into EXIF.

    Raises:
        UnsupportedImage: a sequence alone.
        ImageTooComplex: more boxes, items or units than the file's size justifies.
    """
    hidden, pieces = bytearray(data), Pieces("boxes", len(data))
    count = largest = tracks = 0
    still = False
    for kind, start, end in _boxes(data, 0, len(data), pieces):
        if kind == b"ftyp":
            hidden[start:end] = hidden[start:end].replace(b"avis", b"avif")
        elif kind == b"moov":
            hidden[start - 4 : start] = b"free"
            tracks += 1
        elif kind == b"meta":
            still = True
            hidden[start:end] = hidden[start:end].replace(b"Exif\0", b"exif\0")
            count, largest = _frames(data, start + FULL, end, pieces)
    if tracks and not still:
        raise UnsupportedImage(
            "an AVIF sequence without a still image is not supported; save one of its frames",
            limit="AVIF with a primary item",
            value="tracks only",
        )
    return Essence(bytes(hidden), overhead=OVERHEAD, passes=count, frame_pixels=largest)


def _boxes(data: bytes, start: int, end: int, pieces: Pieces) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box in a part of the file."""
    position = start
    while position + 8 <= end:
        pieces.count()
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1 and position + 16 <= end:
            (length,), head = struct.unpack_from(">Q", data, position + 8), 16
        elif length == 0:
            length = end - position
        if length < head:
            return
        yield kind, position + head, min(position + length, end)
        position += length


def _frames(data: bytes, start: int, end: int, pieces: Pieces) -> tuple[int, int]:
    """How many frames the items may have, each as often as it is referred to, and of which size."""
    boxes = {kind: (s, e) for kind, s, e in _boxes(data, start, end, pieces)}
    inside, _ = boxes.get(b"idat", (0, 0))
    count = largest = 0
    images = set(_images(data, *boxes.get(b"iinf", (0, 0)), pieces))
    for item, extents in _extents(data, *boxes.get(b"iloc", (0, 0)), inside, pieces):
        if item in images:
            bitstream = b"".join(data[first : first + length] for first, length in extents)
            frames, pixels = av1.frames(bitstream, pieces)
            count, largest = count + frames, max(largest, pixels)
    first, last = boxes.get(b"iref", (0, 0))
    references = 0
    for kind, s, e in _boxes(data, first + FULL, last, pieces):
        references += (e - s) // 2 if kind == b"dimg" else 0
    return count + references, largest


def _images(data: bytes, start: int, end: int, pieces: Pieces) -> Iterator[int]:
    """Names of the items that are AV1 images, as the box ``iinf`` has them."""
    head = FULL + (4 if data[start : start + 1] > b"\0" else 2)
    for kind, first, _ in _boxes(data, start + head, end, pieces):
        # The name has 2 bytes, or 4 in version 3; 2 more tell how the item is protected.
        size = 4 if data[first : first + 1] == b"\3" else 2
        name = first + FULL
        if kind == b"infe" and data[name + size + 2 : name + size + 6] == b"av01":
            yield int.from_bytes(data[name : name + size], "big")


def _extents(
    data: bytes, start: int, end: int, inside: int, pieces: Pieces
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each item's name and the (position, length) of its parts, as the box ``iloc`` has them."""
    box = data[start:end]
    if len(box) < 8:
        return
    version, sizes = box[0], (box[4] >> 4, box[4] & 15, box[5] >> 4, box[5] & 15)
    offset_size, length_size, base_size, index_size = sizes
    wide = 4 if version == 2 else 2
    position = 6

    def take(size: int) -> int:
        nonlocal position
        position += size
        return int.from_bytes(box[position - size : position], "big")

    for _ in range(take(wide)):
        item = take(wide)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size) + (inside if method == 1 else 0)
        extents = []
        for _ in range(take(2)):
            pieces.count()
            take(index_size if version else 0)
            offset, length = take(offset_size), take(length_size)
            extents.append((base + offset, length or len(data)))
        if position > len(box):
            return
        pieces.count()
        yield item, extents
