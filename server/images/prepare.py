"""An image turned into what the engine takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import PIL.Image

from vimserve.model.slide import Window
from vimserve.model.transform import Transform
from vimserve.server.engine.request import Image
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.source import OpenImage, Size, Source

# The parts of an input of some (height, width) that the model sees one by one.
Views = Callable[[Size], Sequence[Window]]


def whole(size: Size) -> Sequence[Window]:
    """The one view of an input that the model sees in one piece."""
    return [Window(0, 0, *size)]


@dataclass(frozen=True)
class Limits:
    """What an image may have.

    Attributes:
        pixels: height × width of the image as it came.
        resolution: longest side of the model's input, in pixels, before it is rounded up to
            whole patches.
    """

    pixels: int
    resolution: int


@dataclass(frozen=True)
class Measured:
    """An image of which it is known what it will cost, but no pixel.

    Attributes:
        name: what the client calls it; None if the request has no other.
        size: (height, width) of the model's input.
        views: the parts of it that the model sees one by one.
        lengths: tokens of each view.
    """

    name: str | None
    size: Size
    views: Sequence[Window]
    lengths: Sequence[int]
    _image: OpenImage
    _runner: Runner
    _transform: Transform

    @property
    def image_size(self) -> Size:
        """(height, width) of the image as it came, upright."""
        return self._image.size

    @property
    def tokens(self) -> int:
        """Of all views."""
        return sum(self.lengths)

    def picture(self) -> PIL.Image.Image:
        """The image as it came, RGB and upright.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        return self._image.picture()

    def prepare(self) -> list[Image]:
        """Decode, resize and cut every view into patches.

        A model that segments is asked for a map of the image's own size if it sees the input in
        one piece.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        pixels = self._image.pixels(self._transform)
        map_size = self.image_size if len(self.views) == 1 else None
        return [
            Image((view.height, view.width), self._runner.pack(view.of(pixels)), tokens, map_size)
            for view, tokens in zip(self.views, self.lengths, strict=True)
        ]


def measure(
    source: Source, runner: Runner, transform: Transform, limits: Limits, views: Views = whole
) -> Measured:
    """What an image becomes as an input of the model.

    Raises:
        ImageTooLarge: beyond one of ``limits``.
        BadRequest: if it is no image.
    """
    image = source.open(limits.pixels)
    size = transform.output_size(*image.size)
    _check_side(*size, runner, limits)
    parts = views(size)
    lengths = [runner.tokens(part.height, part.width) for part in parts]
    return Measured(source.name, size, parts, lengths, image, runner, transform)


def _check_side(height: int, width: int, runner: Runner, limits: Limits) -> None:
    side = max(height, width)
    if side > runner.largest_side(limits.resolution):
        raise ImageTooLarge(
            f"the model's input would be {height}x{width} pixels, its longest side may have "
            f"{limits.resolution}; ask for a smaller resolution",
            parameter="resolution",
            limit=limits.resolution,
            value=side,
        )
