"""What a request asks for, checked, and an upload turned into the model's input."""

import re
from dataclasses import dataclass

from model.catalog import ModelSpec
from model.transform import Fit, Transform
from server.decode import Header, read_header
from server.engine.request import Image
from server.engine.runner import Runner
from server.errors import ImageTooLarge, InvalidParameter

DEFAULT_TOP_K = 5


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


def classes_wanted(top_k: int | None, classes: int) -> int:
    """How many classes to return; the default adapts, an explicit number must be possible.

    Raises:
        InvalidParameter: with the number of classes.
    """
    if top_k is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= top_k <= classes:
        raise InvalidParameter(
            f"top_k must be from 1 to {classes}, the number of classes, not {top_k}",
            parameter="top_k",
            limit=classes if top_k > classes else 1,
            value=top_k,
        )
    return top_k


@dataclass(frozen=True)
class Measured:
    """An upload of which it is known what it will cost, but no pixel.

    Attributes:
        size: (height, width) of the model's input.
        tokens: length of its sequence.
    """

    size: tuple[int, int]
    tokens: int
    _header: Header
    _runner: Runner
    _transform: Transform

    def prepare(self) -> Image:
        """Decode, resize and cut into patches.

        Raises:
            BadRequest: as ``Header.decode``.
        """
        picture = self._header.decode(self._transform.decode_size(*self._header.size))
        pixels = self._transform(picture.image, picture.size)
        return Image(self.size, self._runner.pack(pixels), self.tokens)


def measure(data: bytes, runner: Runner, transform: Transform, limits: Limits) -> Measured:
    """What the upload ``data`` becomes as an input of the model.

    Raises:
        ImageTooLarge: beyond one of ``limits``.
        BadRequest: as ``read_header``.
    """
    header = read_header(data, limits.pixels)
    size = transform.output_size(*header.size)
    _check_side(*size, runner, limits)
    return Measured(size, runner.tokens(*size), header, runner, transform)


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
