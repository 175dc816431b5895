"""WebP: a still image, or an animation's first frame.

Format: RFC 9649.
"""

import struct

from vimserve.server.images.formats.essence import Essence, Pieces
from vimserve.server.images.formats.exif import orientation

HEAD_BYTES = 12
# Of VP8X: the flags for a profile, EXIF and XMP, which are left out.
METADATA = 0x20 | 0x08 | 0x04
PIXELS = (b"VP8 ", b"VP8L", b"ANMF")
# libwebp draws on two canvases of 4 bytes, Pillow copies the one; lossless has a third.
OVERHEAD = 13.5


def essence(data: bytes) -> Essence:
    """The chunks of the first picture.

    Raises:
        ImageTooComplex: more chunks than the file's size justifies.
    """
    chunks: dict[bytes, bytes] = {}
    lengths = {}
    position, pieces = HEAD_BYTES, Pieces("chunks", len(data))
    while position + 8 <= len(data):
        pieces.count()
        kind, length = struct.unpack_from("<4sI", data, position)
        after = position + 8 + length + length % 2
        if kind in (b"VP8X", b"ANIM", b"ALPH", b"EXIF", *PIXELS) and kind not in chunks:
            chunks[kind] = data[position:after]
            lengths[kind] = 8 + length + length % 2
        if kind == b"ANMF" or (kind in PIXELS and b"VP8X" not in chunks):
            break  # only a still image in several chunks has anything after its pixels
        position = after
    exif = chunks.pop(b"EXIF", b"")[8:]
    if b"VP8X" in chunks:
        extended = bytearray(chunks[b"VP8X"])
        extended[8:9] = bytes(flags & ~METADATA for flags in extended[8:9])
        chunks[b"VP8X"] = bytes(extended)
    # A truncated file declares more than it has, and must go on doing so.
    declared = 4 + sum(lengths[kind] for kind in chunks)
    head = struct.pack("<4sI4s", b"RIFF", declared, b"WEBP")
    return Essence(head + b"".join(chunks.values()), orientation(exif), OVERHEAD)
