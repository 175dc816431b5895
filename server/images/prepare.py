"""An upload turned into what the engine takes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import PIL.Image

from vimserve.model.catalog import ModelSpec
from vimserve.model.slide import Window
from vimserve.model.transform import Fit, Transform
from vimserve.server.engine.request import Image
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ImageTooLarge, InvalidParameter
from vimserve.server.images.decode import Header, read_header

# The parts of an input of some (height, width) that the model sees one by one.
Views = Callable[[tuple[int, int]], Sequence[Window]]


@dataclass(frozen=True)
class Limits:
    """What an image may have.

    Attributes:
        pixels: height × width of the upload.
        resolution: longest side of the model's input, in pixels, before it is rounded up to
            whole patches.
    """

    pixels: int
    resolution: int


def transform_for(
    spec: ModelSpec, resolution: str | None, fit: Fit | None, max_resolution: int
) -> Transform:
    """The model's transform with what a request asked for.

    Raises:
        InvalidParameter: if ``resolution`` is neither ``native`` nor a whole number of pixels from
            1 to ``max_resolution``.
    """
    if resolution is None:
        return spec.transform.with_request(None, fit)
    if resolution == "native":
        return spec.transform.with_request("native", fit)
    number = int(resolution) if re.fullmatch(r"-?[0-9]{1,9}", resolution) else None
    if number is None or not 1 <= number <= max_resolution:
        raise InvalidParameter(
            f"resolution must be 'native' or a whole number of pixels from 1 to {max_resolution}, "
            f"not {resolution!r}",
            parameter="resolution",
            limit=1 if number is not None and number < 1 else max_resolution,
            value=resolution if number is None else number,
        )
    return spec.transform.with_request(number, fit)


def whole(size: tuple[int, int]) -> Sequence[Window]:
    """The one view of an input that the model sees in one piece."""
    return [Window(0, 0, *size)]


@dataclass(frozen=True)
class Measured:
    """An upload of which it is known what it will cost, but no pixel.

    Attributes:
        upload_size: (height, width) of the image, upright.
        size: (height, width) of the model's input.
        views: the parts of it that the model sees one by one.
        lengths: tokens of each view.
    """

    upload_size: tuple[int, int]
    size: tuple[int, int]
    views: Sequence[Window]
    lengths: Sequence[int]
    _header: Header
    _runner: Runner
    _transform: Transform

    @property
    def tokens(self) -> int:
        """Of all views."""
        return sum(self.lengths)

    def decode(self) -> PIL.Image.Image:
        """The upload in its own size, RGB and upright.

        Raises:
            BadRequest: as ``Header.decode``.
        """
        return self._header.decode(self.upload_size).image

    def prepare(self) -> list[Image]:
        """Decode, resize and cut every view into patches.

        A model that segments is asked for a map of the upload if it sees the input in one piece.

        Raises:
            BadRequest: as ``Header.decode``.
        """
        picture = self._header.decode(self._transform.decode_size(*self.upload_size))
        pixels = self._transform(picture.image, picture.size)
        map_size = self.upload_size if len(self.views) == 1 else None
        return [
            Image((view.height, view.width), self._runner.pack(view.of(pixels)), tokens, map_size)
            for view, tokens in zip(self.views, self.lengths, strict=True)
        ]


def measure(
    data: bytes, runner: Runner, transform: Transform, limits: Limits, views: Views = whole
) -> Measured:
    """What the upload ``data`` becomes as an input of the model.

    Raises:
        ImageTooLarge: beyond one of ``limits``.
        BadRequest: as ``read_header``.
    """
    header = read_header(data, limits.pixels)
    size = transform.output_size(*header.size)
    _check_side(*size, runner, limits)
    parts = views(size)
    lengths = [runner.tokens(part.height, part.width) for part in parts]
    return Measured(header.size, size, parts, lengths, header, runner, transform)


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
