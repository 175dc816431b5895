"""Decodes untrusted bytes to an upright RGB picture."""

import io
import re
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from vimserve.model.resize import between_pixels
from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, EmptyBody, ImageTooLarge, UnsupportedImage
from vimserve.server.images.cost import (
    QUICK_PIXELS,
    QUICK_SCANNED_PIXELS,
    Cost,
    picture_bytes,
    working_bytes,
)
from vimserve.server.images.formats import FORMATS, bmp, essence, exif, gif, png, recognise
from vimserve.server.images.formats.essence import Essence, refuse
from vimserve.server.images.rgb import to_rgb, whole_to_rgb
from vimserve.server.images.upright import sideways, turned, upright

_JPEG_SCALES = (8, 4, 2, 1)
# Of an image's frames together: tiles, alpha, layers and thumbnails are far fewer.
MOST_PASSES = 8

# Pillow warns of damaged metadata and large pictures, which operators cannot change.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Picture:
    """A decoded upload.

    Attributes:
        image: RGB, upright; smaller than ``size`` if the decoder could reduce it for free.
        size: (height, width) of the upload, upright.
    """

    image: Image.Image
    size: tuple[int, int]


class Header:
    """An image file whose header was read; it holds no pixels.

    Attributes:
        size: (height, width) of the image, upright.
        orientation: of EXIF, by which the stored picture is turned.
        file: what its decoder gets.
        num_bytes: of the upload.
    """

    def __init__(self, image: ImageFile, name: str, file: Essence, num_bytes: int) -> None:
        self._opened: ImageFile | None = image
        self._name = name
        self.file = file
        self.num_bytes = num_bytes
        self._mode = image.mode
        self._stored = image.height, image.width
        self.orientation = file.orientation
        if name == "AVIF":
            self.orientation = exif.orientation(image.info.get("exif", b""))
        self._turned = turned(self.orientation)
        self._sideways = sideways(self.orientation)
        self.size = self._as_stored(self._stored)

    def pixels(self, transform: Transform) -> Tensor:
        """The transformed image, uint8 ``[3, H, W]``.

        Raises:
            BadRequest: as ``decode``.
        """
        image = self._decode(transform.decode_size(*self.size))
        return transform(image, self.size, to_rgb)

    def pixels_cost(self, transform: Transform) -> Cost:
        """What ``pixels`` costs."""
        decoding = self._cost(transform.decode_size(*self.size))
        target = transform.output_size(*self.size)
        as_it_is = self._mode == "RGB" and target == self.size
        between = 0 if as_it_is else between_pixels(self.size, target)
        return decoding + Cost(4 * between, quick=True)

    def picture(self) -> Image.Image:
        """The whole image in its own size, RGB and upright.

        Raises:
            BadRequest: as ``decode``.
        """
        return self.decode(self.size).image

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        decoding = self._cost(self.size)
        if self._mode == "RGB":
            return decoding
        return decoding + Cost(picture_bytes("RGB", *self.size), quick=True)

    def decode(self, needed: tuple[int, int]) -> Picture:
        """Decode the first frame; another call decodes the file anew.

        EXIF orientation is applied (that of XMP is not, as in browsers), transparency is laid on
        white, 16-bit grey is scaled to 8 bits; colour profiles are ignored, as the published
        evaluations do.

        Args:
            needed: the smallest useful (height, width), upright. A JPEG is decoded at the
                smallest of its scales (1/2, 1/4, 1/8) that is at least this large.

        Raises:
            UnsupportedImage: its pixels have no obvious RGB meaning.
            CorruptImage: truncated or damaged.
        """
        return Picture(whole_to_rgb(self._decode(needed)), self.size)

    def _decode(self, needed: tuple[int, int]) -> Image.Image:
        """The picture, upright, in the mode that the decoder gives it."""
        height, width = self._as_stored(needed)
        # A waiting request holds the header; it must not keep the pixels in memory too.
        opened, self._opened = self._opened, None
        with opened or Image.open(io.BytesIO(self.file.data), formats=(self._name,)) as image:
            try:
                image.draft(None, (width, height))
                image.load()
                if self._name == "WEBP":
                    del image._decoder  # type: ignore[attr-defined]  # it has two canvases
                return self._finish(image)
            except UnsupportedImage:
                raise
            except Exception as error:  # damaged bytes raise errors of any type
                raise _corrupt(self._name, self.num_bytes, str(error)) from error

    def _finish(self, image: ImageFile) -> Image.Image:
        picture: Image.Image = image
        if self._name == "PNG":
            png.whiten(picture, self.file)
        elif self._name == "BMP":
            bmp.unhide(picture)
        elif self._name == "GIF":
            picture = gif.uncover(picture, self.file.covered)
        return upright(picture, self.orientation)

    def _cost(self, needed: tuple[int, int]) -> Cost:
        height, width = self._stored
        pixels, scale = height * width, 1
        if self._name == "JPEG":
            least = self._as_stored(needed)
            ratio = min(height // least[0], width // least[1])
            scale = next(one for one in _JPEG_SCALES if ratio >= one or one == 1)
        own = picture_bytes(self._mode, -(-height // scale), -(-width // scale))
        if self.file.covered:
            own += picture_bytes("RGB", height, width)
        pixels = max(pixels, self.file.frame_pixels)
        decoding = own + int(pixels * self.file.overhead)
        num_bytes = len(self.file.data) + max(decoding, own * (1 + self._turned))
        quick = pixels <= QUICK_PIXELS and pixels * self.file.passes <= QUICK_SCANNED_PIXELS
        return Cost(num_bytes + working_bytes(pixels), quick and self.file.trusted)

    def _as_stored(self, size: tuple[int, int]) -> tuple[int, int]:
        return (size[1], size[0]) if self._sideways else size


def read_header(data: bytes, max_pixels: int) -> Header:
    """Read the header of a JPEG, PNG, WebP, BMP, GIF or AVIF file.

    Raises:
        EmptyBody: no bytes.
        UnsupportedImage: another format, or a kind of file that is not read.
        ImageTooLarge: height × width is more than ``max_pixels``.
        ImageTooComplex: more chunks, scans or blocks than its size justifies.
        CorruptImage: truncated or damaged.
    """
    if not data:
        raise EmptyBody("the image has no bytes", limit=1, value=0)
    name = recognise(data)
    if name is None:
        raise UnsupportedImage(
            f"the bytes are not an image in one of the formats {', '.join(FORMATS)}",
            limit=FORMATS,
            value=repr(data[:16])[2:-1],
        )
    file = essence(name, data)
    image = _open(name, file, len(data), max_pixels)
    pixels = image.height * image.width
    check_pixels(max(pixels, file.frame_pixels), max_pixels)
    most = MOST_PASSES * max(pixels, QUICK_PIXELS)
    if file.frame_pixels * file.passes > most:
        refuse(f"pixels in frames for {pixels}", most, int(file.frame_pixels * file.passes))
    return Header(image, name, file, len(data))


def _open(name: str, file: Essence, num_bytes: int, max_pixels: int) -> ImageFile:
    # Pillow's limit is process-wide. Set it before opening, because the WebP reader allocates the
    # canvas then.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(io.BytesIO(file.data), formats=(name,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(int(pixels[0]) if pixels else None, max_pixels) from error
    except UnidentifiedImageError as error:  # Pillow does not say more
        raise _corrupt(name, num_bytes, "its header cannot be read") from error
    except Exception as error:
        raise _corrupt(name, num_bytes, str(error)) from error


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Refuse an image of more than ``max_pixels``.

    Raises:
        ImageTooLarge: it has more.
    """
    if pixels > max_pixels:
        raise _too_large(pixels, max_pixels)


def _too_large(pixels: int | None, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"the image has {pixels or 'too many'} pixels, more than the {max_pixels} accepted",
        limit=max_pixels,
        value=pixels,
    )


def _corrupt(name: str, num_bytes: int, reason: str) -> CorruptImage:
    return CorruptImage(
        f"the {name} is truncated or damaged ({num_bytes} bytes received): {reason}",
        limit=f"a complete {name}",
        value=f"{num_bytes} bytes",
    )
