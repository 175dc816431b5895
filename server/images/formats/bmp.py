"""BMP: run lengths, and alpha that is not meant."""

import struct

from PIL import Image

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.formats.essence import Essence

COMPRESSION, RUN_LENGTHS = 30, {1: "RLE8", 2: "RLE4"}
# Pillow decodes runs in Python, some 700 in a millisecond, and others wait for Python's lock.
MOST_RUN_BYTES = 2**16


def essence(data: bytes) -> Essence:
    """The file as it is.

    Raises:
        UnsupportedImage: more bytes of run lengths than can be decoded in passing.
    """
    if len(data) < COMPRESSION + 4:
        return Essence(data)
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    (compression,) = struct.unpack_from("<I", data, COMPRESSION)
    if header_bytes < 40 or compression not in RUN_LENGTHS:
        return Essence(data)
    if len(data) > MOST_RUN_BYTES:
        name = f"BMP with {RUN_LENGTHS[compression]}"
        raise UnsupportedImage(
            f"{name} of more than {MOST_RUN_BYTES} bytes is not supported; save the image as PNG",
            limit=MOST_RUN_BYTES,
            value=len(data),
        )
    return Essence(data, overhead=3, trusted=False)


def unhide(image: Image.Image) -> None:
    """Make a picture opaque, in place, whose alpha is zero everywhere.

    Writers that know no alpha leave zeros there, so browsers and Windows do the same.
    """
    if image.mode == "RGBA" and not image.getchannel("A").getbbox():
        image.putalpha(255)
