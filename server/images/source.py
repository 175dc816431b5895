"""Where images come from; all later steps work on the interfaces here."""

from dataclasses import dataclass
from typing import Protocol

import PIL.Image
from torch import Tensor

from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.choices import PillowImage
from vimserve.server.images.cost import Cost
from vimserve.server.images.decode import read_header
from vimserve.server.images.tiff import TiffImage, read_tiff
from vimserve.server.images.tiff.directory import is_tiff
from vimserve.server.images.tiff.raster import Raster

Size = tuple[int, int]


class OpenImage(Protocol):
    """An image whose size is known; it need not hold any pixels yet.

    Attributes:
        size: (height, width) in pixels, upright.
        sample_range: the values that became 0 and 255 when it was decoded; None before that, and
            if there was no choice.
        raster: what a GeoTIFF of the same pixels has; None if it is no TIFF.
    """

    @property
    def size(self) -> Size: ...  # noqa: D102

    @property
    def sample_range(self) -> tuple[float, float] | None: ...  # noqa: D102

    @property
    def raster(self) -> Raster | None: ...  # noqa: D102

    def pixels(self, transform: Transform) -> Tensor:
        """The model's input ``[3, H, W]``, of the size ``transform.output_size(*self.size)``.

        Returns:
            Pixels as uint8, or in floating point if they are normalised already.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        ...

    def pixels_cost(self, transform: Transform) -> Cost:
        """What ``pixels`` costs."""
        ...

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        ...

    def picture(self, transform: Transform) -> PIL.Image.Image:
        """The whole image in its own size, RGB and upright, by the transform's range and bands.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        ...


class Source(Protocol):
    """An image of a request, before it is read.

    Attributes:
        name: the client's name for it; None if the request has no other image.
    """

    @property
    def name(self) -> str | None: ...  # noqa: D102

    def open(self, max_pixels: int) -> OpenImage:
        """Read the image's size.

        Raises:
            BadRequest: if it is not an image, or has more than ``max_pixels``.
        """
        ...


@dataclass(frozen=True)
class OfOneSize:
    """An image that must be as large as those of its request that were opened before it."""

    image: Source
    sizes: set[Size]

    @property
    def name(self) -> str | None:
        """As the image."""
        return self.image.name

    def open(self, max_pixels: int) -> OpenImage:
        """Read the image's size, and remember it.

        Raises:
            InvalidParameter: it is another one.
            BadRequest: as the image.
        """
        opened = self.image.open(max_pixels)
        self.sizes.add(opened.size)
        if len(self.sizes) > 1:
            (height, width), other = opened.size, next(iter(self.sizes - {opened.size}))
            raise InvalidParameter(
                f"its size, {height}x{width}, is not that of another image, "
                f"{other[0]}x{other[1]}: a tensor of masks needs images of one size",
                limit=list(other),
                value=[height, width],
            )
        return opened


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file."""

    data: bytes
    name: str | None = None

    def open(self, max_pixels: int) -> PillowImage | TiffImage:
        """Read the header.

        Raises:
            BadRequest: as ``read_header`` and ``read_tiff``.
        """
        if is_tiff(self.data):
            return read_tiff(self.data, max_pixels)
        return PillowImage(read_header(self.data, max_pixels))
