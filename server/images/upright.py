"""Turns a stored picture upright, and back (EXIF and TIFF, tag Orientation)."""

from typing import Any

import numpy as np
from PIL import Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(orientation: int) -> bool:
    """Whether a picture has to be turned."""
    return orientation in _TURNS


def sideways(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation in (5, 6, 7, 8)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as it is meant to be seen; other numbers than 2 to 8 leave it as it is."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def stored(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], orientation: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Upright pixels ``[H, W]`` as they are stored for this orientation."""
    # Quarter turns undo each other; every other turn undoes itself.
    back = {6: 8, 8: 6}.get(orientation, orientation)
    if not turned(orientation):
        return pixels
    return np.asarray(upright(Image.fromarray(pixels), back))
