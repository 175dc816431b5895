"""Images that come as arrays: pixels, or what a model's own preprocessing made of them."""

import abc
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, InvalidParameter
from vimserve.server.images.bands import check_bands
from vimserve.server.images.choices import choose_bands
from vimserve.server.images.cost import QUICK_PIXELS, Cost, picture_bytes, working_bytes
from vimserve.server.images.decode import check_pixels

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


class _Opened(abc.ABC):
    """A ``Source``, and an ``OpenImage`` at once."""

    sample_range: None = None
    raster: None = None

    @property
    @abc.abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width)."""

    def open(self, max_pixels: int) -> Self:
        """The image itself.

        Raises:
            ImageTooLarge: if it has more than ``max_pixels``.
        """
        check_pixels(math.prod(self.size), max_pixels)
        return self


@dataclass(frozen=True, eq=False)
class PixelArray(_Opened):
    """Red, green and blue, uint8 ``[H, W, 3]``."""

    array: Pixels
    name: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width, _ = self.array.shape
        return height, width

    def pixels(self, transform: Transform) -> Tensor:
        """The transformed image, uint8 ``[3, H, W]``.

        Raises:
            InvalidParameter: a band that it does not have.
        """
        self._check(transform)
        if transform.output_size(*self.size) == transform.decode_size(*self.size) == self.size:
            return choose_bands(torch.from_numpy(self.array).permute(2, 0, 1), transform)
        return choose_bands(transform(PIL.Image.fromarray(self.array)), transform)

    def pixels_cost(self, transform: Transform) -> Cost:  # noqa: ARG002
        """What ``pixels`` costs."""
        return self.picture_cost()

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        height, width = self.size
        num_bytes = picture_bytes("RGB", height, width) + working_bytes(height * width)
        return Cost(num_bytes, height * width <= QUICK_PIXELS)

    def picture(self, transform: Transform) -> PIL.Image.Image:
        """The whole image.

        Raises:
            InvalidParameter: a band that it does not have.
        """
        self._check(transform)
        chosen = choose_bands(torch.from_numpy(self.array).permute(2, 0, 1), transform)
        return PIL.Image.fromarray(np.ascontiguousarray(chosen.permute(1, 2, 0).numpy()))

    def _check(self, transform: Transform) -> None:
        if transform.bands is not None:
            check_bands(transform.bands, 3)


@dataclass(frozen=True, eq=False)
class NormalisedImage(_Opened):
    """What a model takes, float32 ``[3, H, W]``.

    Attributes:
        largest: the magnitude that no value may exceed.
    """

    array: Floats
    largest: float
    name: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        _, height, width = self.array.shape
        return height, width

    def pixels(self, transform: Transform) -> Tensor:  # noqa: ARG002
        """The image as it is; the transform must leave its size alone.

        Raises:
            CorruptImage: a value is no number, or too large to be normalised.
        """
        extreme = np.abs([self.array.min(), self.array.max()]).max()
        if not extreme <= self.largest:
            raise CorruptImage(
                "the values must be normalised with the model's mean and standard deviation, so "
                f"they lie between {-self.largest:.3g} and {self.largest:.3g}; there is {extreme}",
                limit=self.largest,
                value=str(extreme),
            )
        return torch.from_numpy(self.array)

    def pixels_cost(self, transform: Transform) -> Cost:  # noqa: ARG002
        """What ``pixels`` costs: nothing on top of its result."""
        height, width = self.size
        return Cost(0, height * width <= QUICK_PIXELS)

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        return Cost(0, quick=True)

    def picture(self, transform: Transform) -> PIL.Image.Image:  # noqa: ARG002
        """Refused: the picture that was normalised is not known.

        Raises:
            InvalidParameter: always.
        """
        raise InvalidParameter("a normalised image has no picture; send its pixels")
