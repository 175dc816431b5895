"""Pixels of any mode as RGB."""

import numpy as np
from PIL import Image

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.cost import STRIP_PIXELS


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture, or a part of one, as RGB: 16 bits of grey scaled to 8, transparency on white.

    Raises:
        UnsupportedImage: its pixels have no obvious RGB meaning.
    """
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("F", "LAB", "HSV"):
        raise UnsupportedImage(
            f"pixels of mode {image.mode} are not supported; save the image as 8-bit RGB",
            limit="1, 8 or 16 bits of grey, palette, RGB, YCbCr or CMYK",
            value=image.mode,
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def whole_to_rgb(image: Image.Image) -> Image.Image:
    """``to_rgb`` of a whole picture, a strip at a time."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    page = Image.new("RGB", image.size)
    rows = max(STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        page.paste(to_rgb(image.crop(box)), box)
    return page
