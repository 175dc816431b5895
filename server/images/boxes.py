"""Draws found objects on their picture: tinted masks, boxes, names and scores."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from vimserve.model.palette import Color, Palette
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.instance import Instance
from vimserve.server.images.mask import INK, LEAST_WIDTH, OPACITY, PAPER, blank, text_size, to_jpeg

# Of the brightness of a colour (ITU-R BT.601) above which dark text is easier to read on it.
BRIGHT = 140
# Pixels under the boxes of all masks. Tinting so many takes some three seconds.
MOST_TINTED = 2**29


def overlay(
    picture: Image.Image, instances: Sequence[Instance], labels: Sequence[str], palette: Palette
) -> bytes:
    """A JPEG of the picture with the objects in the colours of their classes.

    What is earlier among ``instances`` is drawn over what is later. A picture that is too small for
    the names lies on a larger page.

    Args:
        picture: RGB.
        instances: what was found in it, best first.
        labels: the classes' names.
        palette: the classes' colours.

    Raises:
        ImageTooLarge: if a side is longer than a JPEG allows, or the masks are too large together.
    """
    _check_area(instances)
    size = text_size(picture.width)
    line = max(size // 8, 1)
    height, width = max(picture.height, size + 4 * line), max(picture.width, LEAST_WIDTH)
    page = blank(height, width, "format=coco")
    page.paste(picture)
    for one in reversed(instances):
        _tint(page, one, palette[one.index])
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for one in reversed(instances):
        left, top, right, bottom = (round(edge) for edge in one.box)
        corners = (left, top, max(right - 1, left), max(bottom - 1, top))
        draw.rectangle(corners, outline=palette[one.index], width=line)
    for one in reversed(instances):
        text = f"{labels[one.index]} {one.score:.0%}"
        _write(draw, font, text, one, palette[one.index], line)
    return to_jpeg(page)


def _check_area(instances: Sequence[Instance]) -> None:
    boxes = (one.box for one in instances if one.mask is not None)
    area = round(sum((right - left) * (bottom - top) for left, top, right, bottom in boxes))
    if area > MOST_TINTED:
        raise ImageTooLarge(
            f"the boxes of the objects' masks have {area} pixels together, but an overlay tints at "
            f"most {MOST_TINTED}; ask for masks=none, or for fewer with max_detections",
            parameter="max_detections",
            limit=MOST_TINTED,
            value=area,
        )


def _tint(page: Image.Image, one: Instance, color: Color) -> None:
    if one.mask is None:
        return
    inside, corner = one.mask.pixels()
    if inside.size:
        alpha = Image.fromarray(inside.view("uint8") * round(255 * OPACITY))
        page.paste(color, corner, alpha)


def _write(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    one: Instance,
    color: Color,
    line: int,
) -> None:
    """The text on a label above the box, or in it where there is no room above."""
    page = draw.im.size
    _, top, _, bottom = draw.textbbox((0, 0), "bp", font, anchor="la")  # of any line of text
    width = math.ceil(font.getlength(text)) + 4 * line
    height = math.ceil(bottom - top) + 4 * line
    left = max(min(round(one.box[0]), page[0] - width), 0)
    above = round(one.box[1]) - height
    upper = above if above >= 0 else max(min(round(one.box[1]), page[1] - height), 0)
    draw.rectangle((left, upper, left + width - 1, upper + height - 1), color)
    red, green, blue = color
    ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > BRIGHT else PAPER
    draw.text((left + 2 * line, upper + 2 * line - top), text, ink, font, anchor="la")
