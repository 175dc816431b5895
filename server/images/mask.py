"""Renders class maps as pictures."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vimserve.model.palette import Color, Palette
from vimserve.server.errors import ImageTooLarge

JPEG_SIDE = 65_500  # libjpeg's limit
OPACITY = 0.55
LEAST_WIDTH = 240  # a narrower legend could not be read
MOST_ENTRIES = 30
PAPER, INK = (255, 255, 255), (20, 20, 20)


def to_png(classes: np.ndarray[Any, np.dtype[np.uint8]], palette: Palette) -> bytes:
    """A PNG whose pixel values are the classes and whose palette has their colours."""
    buffer = BytesIO()
    _paletted(classes, palette).save(buffer, "PNG")
    return buffer.getvalue()


def to_grey_png(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> bytes:
    """A PNG of 8 bits of grey: 255 where the mask is true, else 0."""
    buffer = BytesIO()
    # The rows of a mask resemble each other so much that more effort hardly makes it smaller.
    Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def overlay(
    picture: Image.Image,
    classes: np.ndarray[Any, np.dtype[np.uint8]],
    palette: Palette,
    legend: Sequence[tuple[str, int]],
) -> bytes:
    """A JPEG of the picture tinted with the colours of its classes, above a legend.

    Args:
        picture: RGB, of the map's height and width.
        classes: uint8 ``[H, W]``.
        palette: a colour for each class.
        legend: a (text, class) pair for each entry.

    Raises:
        ImageTooLarge: if a side is longer than a JPEG allows.
    """
    tinted = Image.blend(picture, _paletted(classes, palette).convert("RGB"), OPACITY)
    entries = [(text, palette[index]) for text, index in legend[:MOST_ENTRIES]]
    if len(legend) > MOST_ENTRIES:
        entries.append((f"and {len(legend) - MOST_ENTRIES} more", PAPER))
    width = max(tinted.width, LEAST_WIDTH)
    below = _legend(entries, width, text_size(width))
    page = blank(tinted.height + below.height, width, "format=png")
    page.paste(tinted, (0, 0))
    page.paste(below, (0, tinted.height))
    return to_jpeg(page)


def blank(height: int, width: int, instead: str) -> Image.Image:
    """An empty page for an overlay.

    Raises:
        ImageTooLarge: if a side is longer than a JPEG allows; the client may ask for ``instead``.
    """
    if max(width, height) > JPEG_SIDE:
        raise ImageTooLarge(
            f"an overlay would be {height}x{width} pixels, but a side of a JPEG may have "
            f"{JPEG_SIDE}; ask for {instead}",
            parameter="format",
            limit=JPEG_SIDE,
            value=max(width, height),
        )
    return Image.new("RGB", (width, height), PAPER)


def text_size(width: int) -> int:
    """Height in pixels of the text on a page of this width."""
    return min(max(width // 50, 12), 48)


def to_jpeg(page: Image.Image) -> bytes:
    """A finished overlay."""
    buffer = BytesIO()
    page.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _paletted(classes: np.ndarray[Any, np.dtype[np.uint8]], palette: Palette) -> Image.Image:
    image = Image.fromarray(classes)
    image.putpalette([part for color in palette for part in color])
    return image


def _legend(entries: Sequence[tuple[str, Color]], width: int, text_size: int) -> Image.Image:
    """Coloured squares and what they stand for, in as many columns as there is room for."""
    font = ImageFont.load_default(text_size)
    gap = text_size // 2
    longest = max(font.getlength(text) for text, _ in entries)
    column = int(longest) + text_size + 3 * gap
    columns = max((width - gap) // column, 1)
    row = text_size + gap
    page = Image.new("RGB", (width, -(-len(entries) // columns) * row + gap), PAPER)
    draw = ImageDraw.Draw(page)
    for i, (text, color) in enumerate(entries):
        x, y = gap + i % columns * column, gap + i // columns * row
        draw.rectangle((x, y, x + text_size, y + text_size), color, outline=INK)
        middle = (x + text_size + gap, y + text_size / 2)
        draw.text(middle, text, INK, font, anchor="lm")
    return page
