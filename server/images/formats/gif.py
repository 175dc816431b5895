"""GIF: the first frame.

Format: GIF89a (https://www.w3.org/Graphics/GIF/spec-gif89a.txt).
"""

import struct

from PIL import Image

from vimserve.server.images.formats.essence import Box, Essence, Pieces

SCREEN_BYTES, FRAME_BYTES = 13, 10
EXTENSION, FRAME, CONTROL = 0x21, 0x2C, 0xF9
HAS_TABLE, TABLE_SIZE = 0x80, 0x07


def essence(data: bytes) -> Essence:
    """The screen, and all from the first frame on with the control block that belongs to it.

    Raises:
        ImageTooComplex: more blocks than the file's size justifies.
    """
    if len(data) < SCREEN_BYTES:
        return Essence(data)
    table = 3 << ((data[10] & TABLE_SIZE) + 1) if data[10] & HAS_TABLE else 0
    head = SCREEN_BYTES + table
    position, control, pieces = head, b"", Pieces("blocks", len(data))
    while position < len(data) and data[position] != FRAME:
        pieces.count()
        if data[position] != EXTENSION:
            position += 1  # Pillow skips such bytes too
            continue
        block = position
        position += 2
        while position < len(data) and data[position]:
            pieces.count()
            position += 1 + data[position]
        position += 1
        if data[block + 1 : block + 2] == bytes([CONTROL]):
            control = data[block:position]
    return Essence(data[:head] + control + data[position:], covered=_covered(data, position))


def uncover(image: Image.Image, covered: Box | None) -> Image.Image:
    """The picture with white where its frame does not cover it."""
    if covered is None:
        return image
    page = Image.new("RGB", image.size, "white")
    frame = image.crop(covered)
    page.paste(frame.convert("RGB"), covered)
    return page


def _covered(data: bytes, position: int) -> Box | None:
    if position + FRAME_BYTES > len(data):
        return None
    screen = struct.unpack_from("<HH", data, 6)
    left, top, width, height = struct.unpack_from("<4H", data, position + 1)
    if left == top == 0 and width >= screen[0] and height >= screen[1]:
        return None
    return left, top, left + width, top + height
