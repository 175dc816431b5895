"""Colours of classes."""

import json
from pathlib import Path

from vimserve.model.text_files import read_text

Color = tuple[int, int, int]
Palette = tuple[Color, ...]


def make_palette(num_classes: int) -> Palette:
    """The colours of Pascal VOC (its development kit's ``VOClabelcolormap``): black is class 0.

    The bits of a class's number, three by three, become the highest bits of red, green and blue.
    """
    return tuple(
        (_every_third_bit(i), _every_third_bit(i >> 1), _every_third_bit(i >> 2))
        for i in range(num_classes)
    )


def read_palette(path: Path, num_classes: int) -> Palette:
    """Colours from a JSON list of ``[red, green, blue]``, or an object with one as ``palette``.

    Raises:
        ValueError: if the file cannot be read or has not one colour for each class.
    """
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"palette {path}: {error}") from error
    colors = content.get("palette") if isinstance(content, dict) else content
    if not isinstance(colors, list) or not all(map(_is_color, colors)):
        raise ValueError(
            f"palette {path}: neither a list of [red, green, blue], each from 0 to 255, nor an "
            "object with 'palette'"
        )
    if len(colors) != num_classes:
        raise ValueError(f"palette {path}: {len(colors)} colours for {num_classes} classes")
    return tuple((red, green, blue) for red, green, blue in colors)


def _every_third_bit(number: int) -> int:
    """Bits 0, 3, 6 … of a number as the highest, second highest … of a byte."""
    return sum((number >> 3 * bit & 1) << (7 - bit) for bit in range(8))


def _is_color(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(("red", "green", "blue"))
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    )
