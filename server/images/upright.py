"""Turns a stored picture upright (EXIF and TIFF, tag Orientation)."""

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
