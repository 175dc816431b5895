"""Resizes a picture in strips, so that only a strip at a time has to be RGB."""

from collections.abc import Callable
from math import ceil, floor
from typing import Literal

from PIL import Image

Box = tuple[float, float, float, float]
ToRgb = Callable[[Image.Image], Image.Image]
Filter = Literal["bicubic", "bilinear"]

STRIP_PIXELS = 2**20
# What Pillow may have between its two passes.
MOST_BETWEEN = 2**24
# Pixels to either side that a bicubic filter sees, at scale 1; a bilinear one sees fewer.
SUPPORT = 2
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def between_pixels(picture: tuple[int, int], target: tuple[int, int]) -> int:
    """The most pixels that ``resize`` has between its two passes.

    Args:
        picture: its (height, width).
        target: (height, width) of the result.
    """
    (height, width), (high, wide) = picture, target
    return min(height * wide, max(width * high, MOST_BETWEEN))


def resize(
    image: Image.Image, size: tuple[int, int], box: Box, to_rgb: ToRgb, by: Filter = "bicubic"
) -> Image.Image:
    """What ``to_rgb(image).resize(size, by, box)`` gives.

    A large picture may differ from that by what the order of the two passes rounds.

    Args:
        image: the picture, in any mode.
        size: (width, height) of the result.
        box: the part of the picture that is resized.
        to_rgb: makes any part of the picture RGB.
        by: the filter, which is wider where the picture shrinks.
    """
    plain = image.mode == "RGB" and not image.has_transparency_data
    if plain and size == image.size and box == (0, 0, *size):
        return image  # Pillow would copy it
    resample = _RESAMPLING[by]
    high = image.height * size[0] > MOST_BETWEEN
    if not high and (image.mode == "RGB" or image.width * image.height <= STRIP_PIXELS):
        return to_rgb(image).resize(size, resample, box=box)
    if image.width * size[1] < image.height * size[0]:
        return _height_first(image, size, box, to_rgb, resample)
    return _width_first(image, size, box, to_rgb, resample)


def _width_first(
    image: Image.Image,
    size: tuple[int, int],
    box: Box,
    to_rgb: ToRgb,
    resample: Image.Resampling,
) -> Image.Image:
    between = Image.new("RGB", (size[0], image.height))
    top, bottom = _seen(box[1], box[3], size[1], image.height)
    step = max(STRIP_PIXELS // image.width, 1)
    for upper in range(top, bottom, step):
        strip = to_rgb(image.crop((0, upper, image.width, min(upper + step, bottom))))
        across = (box[0], 0, box[2], strip.height)
        narrow = strip.resize((size[0], strip.height), resample, box=across)
        between.paste(narrow, (0, upper))
    down = (0, box[1], size[0], box[3])
    return between.resize(size, resample, box=down)


def _height_first(
    image: Image.Image,
    size: tuple[int, int],
    box: Box,
    to_rgb: ToRgb,
    resample: Image.Resampling,
) -> Image.Image:
    between = Image.new("RGB", (image.width, size[1]))
    left, right = _seen(box[0], box[2], size[0], image.width)
    step = max(STRIP_PIXELS // image.height, 1)
    for first in range(left, right, step):
        strip = to_rgb(image.crop((first, 0, min(first + step, right), image.height)))
        down = (0, box[1], strip.width, box[3])
        low = strip.resize((strip.width, size[1]), resample, box=down)
        between.paste(low, (first, 0))
    across = (box[0], 0, box[2], size[1])
    return between.resize(size, resample, box=across)


def _seen(start: float, end: float, size: int, side: int) -> tuple[int, int]:
    """The pixels of a side that matter for what lies between start and end."""
    margin = ceil(SUPPORT * max((end - start) / size, 1)) + 1
    return max(floor(start) - margin, 0), min(ceil(end) + margin, side)
