"""The formats of image files, and of those that Pillow reads what its decoder needs of a file."""

from collections.abc import Callable

from PIL import Image, features

from vimserve.server.images.formats import avif, bmp, gif, jpeg, png, webp
from vimserve.server.images.formats.essence import Essence

BY_PILLOW = ("JPEG", "PNG", "WEBP", "BMP", "GIF") + (("AVIF",) if features.check("avif") else ())
FORMATS = (*BY_PILLOW, "TIFF")

Image.init()  # all plugins, whose signatures are needed before the first file is opened

_ESSENCES: dict[str, Callable[[bytes], Essence]] = {
    "JPEG": jpeg.essence,
    "PNG": png.essence,
    "WEBP": webp.essence,
    "BMP": bmp.essence,
    "GIF": gif.essence,
    "AVIF": avif.essence,
}


def recognise(data: bytes) -> str | None:
    """The format of ``BY_PILLOW`` that the first bytes are those of, or None."""
    for name in BY_PILLOW:
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
