"""AVIF: the primary item, without metadata and sequence.

Format: ISO/IEC 14496-12 (boxes), 23008-12 (items), AV1 Image File Format
(https://aomediacodec.github.io/av1-avif/).
"""

import struct

from PIL import AvifImagePlugin

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.formats.essence import Essence, Pieces

# Decoded planes of up to 2 bytes for each of 4 samples, and two copies as RGBA.
OVERHEAD = 12

# libavif would take all cores for one image.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def essence(data: bytes) -> Essence:
    """The file with its sequence and its EXIF hidden from the decoder.

    The orientation is that of the item's own properties, which Pillow turns into EXIF.

    Raises:
        UnsupportedImage: a sequence alone.
        ImageTooComplex: more boxes than the file's size justifies.
    """
    hidden = bytearray(data)
    pieces = Pieces("boxes", len(data))
    position, still = 0, False
    tracks: list[int] = []
    while position + 8 <= len(data):
        pieces.count()
        length, kind = struct.unpack_from(">I4s", data, position)
        if length == 1 and position + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, position + 8)
        if length < 8:
            break  # to the end of the file
        if kind == b"meta":
            still = True
            end = min(position + length, len(data))
            hidden[position:end] = hidden[position:end].replace(b"Exif\0", b"exif\0")
        elif kind == b"ftyp":
            end = min(position + length, len(data))
            hidden[position:end] = hidden[position:end].replace(b"avis", b"avif")
        elif kind == b"moov":
            tracks.append(position)
        position += length
    if tracks and not still:
        raise UnsupportedImage(
            "an AVIF sequence without a still image is not supported; save one of its frames",
            limit="AVIF with a primary item",
            value="tracks only",
        )
    for track in tracks:
        hidden[track + 4 : track + 8] = b"free"
    return Essence(bytes(hidden), overhead=OVERHEAD, trusted=False)
