"""The formats of image files, each with what its decoder needs of a file.

TIFF goes to Pillow as it is.
"""

from collections.abc import Callable

from PIL import Image, features

from vimserve.server.images.formats import avif, bmp, gif, jpeg, png, webp
from vimserve.server.images.formats.essence import Essence

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF") + (
    ("AVIF",) if features.check("avif") else ()
)

Image.init()  # all plugins, whose signatures are needed before the first file is opened

_ESSENCES: dict[str, Callable[[bytes], Essence]] = {
    "JPEG": jpeg.essence,
    "PNG": png.essence,
    "WEBP": webp.essence,
    "BMP": bmp.essence,
    "GIF": gif.essence,
    "AVIF": avif.essence,
    "TIFF": lambda data: Essence(data, overhead=8, trusted=False),
}


def recognise(data: bytes) -> str | None:
    """The format that the first bytes are those of, or None."""
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept and accept(data[:16]) is True:
            return name
    return None


def essence(name: str, data: bytes) -> Essence:
    """What the decoder of the format ``name`` needs of a file.

    Raises:
        UnsupportedImage: a kind of file that is not read.
        ImageTooComplex: it would cost more than its pixels justify.
    """
    return _ESSENCES[name](data)
