"""Colours of classes."""

import json
from pathlib import Path
from typing import Any

from vimserve.model.text_files import read_text

Color = tuple[int, int, int]
Palette = tuple[Color, ...]


def make_palette(num_classes: int, first: int = 0) -> Palette:
    """The colours of Pascal VOC (its development kit's ``VOClabelcolormap``): black is number 0.

    The bits of a number, three by three, become the highest bits of red, green and blue.

    Args:
        num_classes: how many colours.
        first: number of the first class; 1 where there is no class of background.
    """
    return tuple(
        (_every_third_bit(i), _every_third_bit(i >> 1), _every_third_bit(i >> 2))
        for i in range(first, first + num_classes)
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
    return checked_palette(content, num_classes, f"palette {path}")


def checked_palette(content: Any, num_classes: int, where: str) -> Palette:
    """Colours from a list of ``[red, green, blue]``, or an object with one as ``palette``.

    Raises:
        ValueError: if it is neither or has not one colour for each class; it begins with ``where``.
    """
    colors = content.get("palette") if isinstance(content, dict) else content
    if not isinstance(colors, list) or not all(map(_is_color, colors)):
        raise ValueError(
            f"{where}: neither a list of [red, green, blue], each from 0 to 255, nor an "
            "object with 'palette'"
        )
    if len(colors) != num_classes:
        raise ValueError(f"{where}: {len(colors)} colours for {num_classes} classes")
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
