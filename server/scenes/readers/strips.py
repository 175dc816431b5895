"""JPEG and PNG, which are decoded from the top row down.

GDAL decodes them row by row and keeps the rows that the next windows need, so windows have to be
read from the top down: it begins anew for one above of what it keeps.
"""

import struct
from pathlib import Path

from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.formats import exif, jpeg
from vimserve.server.images.source import Size
from vimserve.server.scenes.readers.files import check_upright, mapped
from vimserve.server.scenes.readers.raster import RasterScene

_INTERLACED_AT = 28
# What may be decoded as a whole, if it cannot be by rows.
MOST_BYTES = 2**28


def open_jpeg(path: Path) -> RasterScene:
    """Open a JPEG.

    Raises:
        UnsupportedImage: it is stored turned.
        ImageTooLarge: it cannot be decoded by rows, and is too large to be decoded as a whole.
        CorruptImage: truncated or damaged.
    """
    with mapped(path) as data:
        frame = b""
        for marker, _, segment in jpeg.segments(data):
            if marker == jpeg.APP1:
                check_upright(path, exif.orientation(segment))
            if marker in jpeg.FRAMES:
                progressive, frame = marker in jpeg.PROGRESSIVE, segment
            if marker == jpeg.SCAN and len(frame) >= 6 and segment:
                size = struct.unpack_from(">HH", frame, 1)
                if progressive or segment[0] < frame[5]:
                    num_bytes = int(size[0] * size[1] * jpeg.coefficient_bytes(frame))
                    _check(path, "a JPEG of several scans", size, num_bytes)
    return RasterScene(path, "JPEG", JPEG_ALLOW_LARGE_LIBJPEG_MEM_ALLOC="YES")


def open_png(path: Path) -> RasterScene:
    """Open a PNG.

    Raises:
        ImageTooLarge: it cannot be decoded by rows, and is too large to be decoded as a whole.
        CorruptImage: truncated or damaged.
    """
    # Else GDAL may read a window that is the whole picture in another way, in which it does not
    # notice that a file ends early.
    scene = RasterScene(path, "PNG", GDAL_PNG_WHOLE_IMAGE_OPTIM="NO")
    with path.open("rb") as file:
        interlaced = file.read(_INTERLACED_AT + 1)[-1]
    if interlaced:
        height, width = scene.size
        num_bytes = height * width * scene.bands * scene.type.dtype.itemsize
        try:
            _check(path, "an interlaced PNG", scene.size, num_bytes)
        except ImageTooLarge:
            scene.close()
            raise
    return scene


def _check(path: Path, kind: str, size: Size, num_bytes: int) -> None:
    if num_bytes > MOST_BYTES:
        raise ImageTooLarge(
            f"{path.name} is {kind}, {size[0]}x{size[1]} pixels, which is not decoded by rows but "
            f"in {num_bytes} bytes of memory, more than the {MOST_BYTES} accepted; save it as a "
            "TIFF with tiles",
            limit=MOST_BYTES,
            value=num_bytes,
        )
