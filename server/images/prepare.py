"""Prepares images for the engine: measures them, then cuts them into patches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import PIL.Image
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.served import Wanted
from vimserve.model.slide import Window
from vimserve.model.transform import Transform, pad_normalised
from vimserve.server.engine.geometry import Geometry
from vimserve.server.engine.request import Image, Part
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.cost import Cost, picture_bytes
from vimserve.server.images.decode import check_pixels
from vimserve.server.images.source import OpenImage, Size, Source
from vimserve.server.images.tiff.raster import Raster

# From an input's (height, width) to the parts of it that the model sees one by one.
Views = Callable[[Size], Sequence[Window]]

# A pixel of a padded input before it is cut into patches.
PADDED_BYTES = 3 * 4
# A pixel of an input of many views, which is kept until the last of them has run, and of the
# picture from which it comes, if that was resized.
KEPT_BYTES, RESIZED_BYTES = 3, 4
# An input of many views may have so many times the pixels of the largest image. It has more than
# its image where a side is less than a patch.
MOST_ENLARGED = 2
# An overlay has the picture, the classes' colours, the tinted picture and the page with a legend.
DRAWN_COPIES = 4


def whole(size: Size) -> Sequence[Window]:
    """A single view, the whole input."""
    return [Window(0, 0, *size)]


@dataclass(frozen=True)
class Limits:
    """Limits of an image.

    Attributes:
        pixels: height × width of the original image.
        resolution: longest side of a view of the model's input, in pixels, before it is rounded up
            to whole patches.
    """

    pixels: int
    resolution: int


@dataclass(frozen=True)
class Input:
    """What a model sees of an image, without the pixels.

    Attributes:
        size: (height, width) of the model's input.
        views: the parts of it that the model sees one by one.
        lengths: tokens of each view.
    """

    size: Size
    views: Sequence[Window]
    lengths: Sequence[int]

    @property
    def tokens(self) -> int:
        """Tokens of all views."""
        return sum(self.lengths)


@dataclass(frozen=True)
class Measured(Input):
    """An image whose cost is known, but whose pixels are not decoded yet.

    Attributes:
        name: the client's name for it; None if the request has no other image.
    """

    name: str | None
    _image: OpenImage
    _runner: Runner
    _transform: Transform

    @property
    def image_size(self) -> Size:
        """(height, width) of the original image, upright."""
        return self._image.size

    @property
    def sample_range(self) -> tuple[float, float] | None:
        """The sample values that became 0 and 255, once it is decoded and if there was a choice."""
        return self._image.sample_range

    @property
    def bands(self) -> tuple[int, ...] | None:
        """The bands that the model sees, counted from 1, if they were chosen."""
        return self._transform.bands

    @property
    def prepare_cost(self) -> Cost:
        """What ``prepare`` costs, on top of its result unless that has many views."""
        cost = self._image.pixels_cost(self._transform)
        if self._transform.fit == "square":
            height, width = self.size
            cost += Cost(PADDED_BYTES * height * width, quick=True)
        if len(self.views) > 1:
            resized = self.size != self.image_size
            kept = KEPT_BYTES + RESIZED_BYTES * resized
            cost += Cost(kept * math.prod(self.size), quick=True)
        return cost

    @property
    def picture_cost(self) -> Cost:
        """What it costs to decode ``picture`` and to draw on it."""
        decoding = self._image.picture_cost()
        drawn = DRAWN_COPIES * picture_bytes("RGB", *self.image_size)
        return replace(decoding, num_bytes=max(decoding.num_bytes, drawn))

    @property
    def raster(self) -> Raster | None:
        """What a GeoTIFF of the same pixels has; None if the image is no TIFF."""
        return self._image.raster

    @property
    def raster_cost(self) -> Cost:
        """What it costs to look where ``raster`` has no data."""
        if self.raster is None or self.raster.nodata is None:
            return Cost(0, quick=True)
        return self._image.picture_cost()

    def picture(self) -> PIL.Image.Image:
        """The original image, RGB and upright.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        return self._image.picture(self._transform)

    def prepare(self, wanted: Wanted | None) -> Sequence[Image | Part]:
        """Decode and resize; cut a single view into patches.

        Args:
            wanted: what the model shall return for each; see ``ServedModel.answer``.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        pixels = self._image.pixels(self._transform)
        if pixels.shape[1:] != self.size:
            config = self._runner.spec.config
            pixels = pad_normalised(pixels, self.size, config.pixel_mean, config.pixel_std)
        if len(self.views) == 1:
            return [Image(self.size, self._runner.pack(pixels), self.tokens, wanted)]
        return [
            Part((view.height, view.width), partial(self._cut, pixels, view), tokens, wanted)
            for view, tokens in zip(self.views, self.lengths, strict=True)
        ]

    def _cut(self, pixels: Tensor, view: Window) -> PackedBatch:
        return self._runner.pack(view.of(pixels))


def measure(
    source: Source,
    runner: Runner,
    transform: Transform,
    limits: Limits,
    views: Views = whole,
) -> Measured:
    """Read the size of an image, and derive the model's input and its cost.

    Args:
        source: the image.
        runner: the model.
        transform: the first step for it.
        limits: what it may not exceed.
        views: splits the input into the parts that the model sees one by one.

    Raises:
        ImageTooLarge: if it exceeds one of ``limits``.
        BadRequest: if it is not an image.
    """
    image = source.open(limits.pixels)
    seen = input_of(image.size, runner, transform, limits, views)
    return Measured(seen.size, seen.views, seen.lengths, source.name, image, runner, transform)


def input_of(
    image_size: Size, model: Geometry, transform: Transform, limits: Limits, views: Views = whole
) -> Input:
    """What the model sees of any image of this size; the other arguments are as for ``measure``.

    Raises:
        ImageTooLarge: if it exceeds one of ``limits``.
    """
    check_pixels(math.prod(image_size), limits.pixels)
    size = transform.output_size(*image_size)
    _check_input(*size, model, limits)
    parts = views(size)
    for part in parts:
        _check_side(part.height, part.width, model, limits)
    return Input(size, parts, [model.tokens(part.height, part.width) for part in parts])


def _check_input(height: int, width: int, model: Geometry, limits: Limits) -> None:
    """Refuse what would be listed in very many views before it is."""
    most = max(MOST_ENLARGED * limits.pixels, model.largest_side(limits.resolution) ** 2)
    if height * width > most:
        raise ImageTooLarge(
            f"the model's input would be {height}x{width} pixels, more than the {most} accepted; "
            "ask for a smaller resolution",
            parameter="resolution",
            limit=most,
            value=height * width,
        )


def _check_side(height: int, width: int, model: Geometry, limits: Limits) -> None:
    side = max(height, width)
    if side > model.largest_side(limits.resolution):
        raise ImageTooLarge(
            f"the model's input would be {height}x{width} pixels, but its longest side may have "
            f"{limits.resolution}; ask for a smaller resolution",
            parameter="resolution",
            limit=limits.resolution,
            value=side,
        )
