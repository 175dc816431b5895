"""What a request asks for, checked, and an upload turned into the model's input."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from model.catalog import ModelSpec
from model.transform import Fit, Transform
from server.decode import decode
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


def prepare(
    data: bytes,
    runner: Runner,
    transform: Transform,
    limits: Limits,
    admit: Callable[[int, int, int], None],
) -> Image:
    """Decode, resize and cut into patches.

    Args:
        data: the upload.
        runner: whose input it becomes.
        transform: what becomes of it.
        limits: of its sizes.
        admit: given the input's height, width and tokens before any pixel is decoded; it may
            refuse them by raising a ``ServerError``.

    Raises:
        ImageTooLarge: beyond one of ``limits``; nothing is decoded then.
        BadRequest: as ``decode``.
    """

    def needed_size(height: int, width: int) -> tuple[int, int]:
        out_h, out_w = transform.output_size(height, width)
        _check_side(out_h, out_w, runner, limits)
        admit(out_h, out_w, runner.tokens(out_h, out_w))
        return transform.decode_size(height, width)

    picture = decode(data, limits.pixels, needed_size)
    pixels = transform(picture.image, picture.size)
    height, width = pixels.shape[1:]
    return Image((height, width), runner.pack(pixels), runner.tokens(height, width))


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
