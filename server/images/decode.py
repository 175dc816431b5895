"""Decodes untrusted bytes to an upright RGB picture."""

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile
from torch import Tensor

from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, EmptyBody, ImageTooLarge, UnsupportedImage
from vimserve.server.images.upright import sideways, upright

BY_PILLOW = ("JPEG", "PNG", "WEBP", "BMP", "GIF") + (("AVIF",) if features.check("avif") else ())
FORMATS = (*BY_PILLOW, "TIFF")

_ORIENTATION_TAG = 0x0112

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
        orientation: by which it is turned, as in EXIF.
    """

    def __init__(self, image: ImageFile, data: bytes) -> None:
        self._opened: ImageFile | None = image
        self._data = data
        self.orientation = _orientation(image)
        self._sideways = sideways(self.orientation)
        size = image.height, image.width
        self.size = (size[1], size[0]) if self._sideways else size

    def pixels(self, transform: Transform) -> Tensor:
        """The transformed image, uint8 ``[3, H, W]``.

        Raises:
            BadRequest: as ``decode``.
        """
        decoded = self.decode(transform.decode_size(*self.size))
        return transform(decoded.image, decoded.size)

    def picture(self) -> Image.Image:
        """The whole image in its own size, RGB and upright.

        Raises:
            BadRequest: as ``decode``.
        """
        return self.decode(self.size).image

    def decode(self, needed: tuple[int, int]) -> Picture:
        """Decode the first frame; another call decodes the file anew.

        EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits;
        colour profiles are ignored, as the published evaluations do.

        Args:
            needed: the smallest useful (height, width), upright. A JPEG is decoded at the
                smallest of its scales (1/2, 1/4, 1/8) that is at least this large.

        Raises:
            UnsupportedImage: its pixels have no obvious RGB meaning.
            CorruptImage: truncated or damaged.
        """
        needed_h, needed_w = needed[::-1] if self._sideways else needed
        # A waiting request holds the header; it must not keep the pixels in memory too.
        opened, self._opened = self._opened, None
        with opened or Image.open(io.BytesIO(self._data), formats=BY_PILLOW) as image:
            try:
                image.draft(None, (needed_w, needed_h))
                image.load()
                return Picture(_to_rgb(upright(image, self.orientation)), self.size)
            except UnsupportedImage:
                raise
            except Exception as error:  # damaged bytes raise errors of any type
                raise _corrupt(image.format, self._data, error) from error


def read_header(data: bytes, max_pixels: int) -> Header:
    """Read the header of a JPEG, PNG, WebP, BMP, GIF or AVIF file.

    Raises:
        EmptyBody: no bytes.
        UnsupportedImage: another format.
        ImageTooLarge: height × width is more than ``max_pixels``.
        CorruptImage: truncated or damaged.
    """
    if not data:
        raise EmptyBody("the image has no bytes", limit=1, value=0)
    image = _open(data, max_pixels)
    if image.height * image.width > max_pixels:
        raise _too_large(image.height * image.width, max_pixels)
    return Header(image, data)


def _open(data: bytes, max_pixels: int) -> ImageFile:
    # Pillow's limit is process-wide. Set it before opening, because the WebP reader allocates the
    # canvas then.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(io.BytesIO(data), formats=BY_PILLOW)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(int(pixels[0]) if pixels else None, max_pixels) from error
    except UnidentifiedImageError as error:
        for name in BY_PILLOW:
            accept = Image.OPEN[name][1]
            if accept and accept(data[:16]) is True:
                raise _corrupt(name, data, error) from error
        raise UnsupportedImage(
            f"the bytes are not an image in one of the formats {', '.join(FORMATS)}",
            limit=FORMATS,
            value=repr(data[:16])[2:-1],
        ) from error
    except Exception as error:
        raise _corrupt(None, data, error) from error


def _too_large(pixels: int | None, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"the image has {pixels or 'too many'} pixels, more than the {max_pixels} accepted",
        limit=max_pixels,
        value=pixels,
    )


def _corrupt(name: str | None, data: bytes, error: Exception) -> CorruptImage:
    kind = name or "image"
    return CorruptImage(
        f"the {kind} is truncated or damaged ({len(data)} bytes received): {error}",
        limit=f"a complete {kind}",
        value=f"{len(data)} bytes",
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # the metadata is damaged; the pixels may still be intact
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("F", "LAB", "HSV"):
        raise UnsupportedImage(
            f"pixels of mode {image.mode} are not supported; save the image as 8-bit RGB",
            limit="1, 8 or 16 bits of grey, palette, RGB, YCbCr or CMYK",
            value=image.mode,
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
