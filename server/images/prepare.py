"""Prepares images for the engine: measures them, then cuts them into patches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import PIL.Image

from vimserve.model.slide import Window
from vimserve.model.transform import Transform
from vimserve.server.engine.request import Image
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.cost import Cost, picture_bytes
from vimserve.server.images.decode import check_pixels
from vimserve.server.images.source import OpenImage, Size, Source

# From an input's (height, width) to the parts of it that the model sees one by one.
Views = Callable[[Size], Sequence[Window]]

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
        resolution: longest side of the model's input, in pixels, before it is rounded up to
            whole patches.
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
    _scores: bool = False

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
        """What ``prepare`` costs, on top of its result."""
        return self._image.pixels_cost(self._transform)

    @property
    def picture_cost(self) -> Cost:
        """What it costs to decode ``picture`` and to draw on it."""
        decoding = self._image.picture_cost()
        drawn = DRAWN_COPIES * picture_bytes("RGB", *self.image_size)
        return replace(decoding, num_bytes=max(decoding.num_bytes, drawn))

    def picture(self) -> PIL.Image.Image:
        """The original image, RGB and upright.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        return self._image.picture(self._transform)

    def prepare(self) -> list[Image]:
        """Decode, resize and cut every view into patches.

        If the model sees the input in one piece, a segmenter is asked for a map of the original
        image's size, unless its class scores are wanted.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        pixels = self._image.pixels(self._transform)
        map_size = None if self._scores or len(self.views) > 1 else self.image_size
        return [
            Image((view.height, view.width), self._runner.pack(view.of(pixels)), tokens, map_size)
            for view, tokens in zip(self.views, self.lengths, strict=True)
        ]


def measure(
    source: Source,
    runner: Runner,
    transform: Transform,
    limits: Limits,
    views: Views = whole,
    *,
    scores: bool = False,
) -> Measured:
    """Read the size of an image, and derive the model's input and its cost.

    Args:
        source: the image.
        runner: the model.
        transform: the first step for it.
        limits: what it may not exceed.
        views: splits the input into the parts that the model sees one by one.
        scores: whether a segmenter returns class scores also for a single view.

    Raises:
        ImageTooLarge: if it exceeds one of ``limits``.
        BadRequest: if it is not an image.
    """
    image = source.open(limits.pixels)
    seen = input_of(image.size, runner, transform, limits, views)
    return Measured(
        seen.size, seen.views, seen.lengths, source.name, image, runner, transform, scores
    )


def input_of(
    image_size: Size, runner: Runner, transform: Transform, limits: Limits, views: Views = whole
) -> Input:
    """What the model sees of any image of this size; the arguments are those of ``measure``.

    Raises:
        ImageTooLarge: if it exceeds one of ``limits``.
    """
    check_pixels(math.prod(image_size), limits.pixels)
    size = transform.output_size(*image_size)
    _check_side(*size, runner, limits)
    parts = views(size)
    return Input(size, parts, [runner.tokens(part.height, part.width) for part in parts])


def _check_side(height: int, width: int, runner: Runner, limits: Limits) -> None:
    side = max(height, width)
    if side > runner.largest_side(limits.resolution):
        raise ImageTooLarge(
            f"the model's input would be {height}x{width} pixels, but its longest side may have "
            f"{limits.resolution}; ask for a smaller resolution",
            parameter="resolution",
            limit=limits.resolution,
            value=side,
        )
