import struct

import numpy as np
import pytest

from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.bmp import MOST_RUN_BYTES

MASKS = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def bmp(header_bytes, pixels, *, compression=3, bits=32, width=4, height=2):
    """A bitmap whose header is one of version 3 (56 bytes), 4 (108) or 5 (124), with masks."""
    info = struct.pack(
        "<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, len(pixels), 0, 0, 0, 0
    )
    head = (info + MASKS).ljust(header_bytes, b"\0")[:header_bytes]
    palette = bytes(range(256)) * 4 if bits == 8 else b""
    offset = 14 + len(head) + len(palette)
    start = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    return start + head + palette + pixels


def decode(data):
    return np.asarray(read_header(data, 10**6).picture())


@pytest.mark.parametrize("header_bytes", [56, 108, 124])
def test_alpha_that_is_zero_everywhere_is_not_meant(header_bytes):
    assert (decode(bmp(header_bytes, b"\x10\x20\x30\0" * 8)) == (0x30, 0x20, 0x10)).all()


@pytest.mark.parametrize("header_bytes", [56, 108, 124])
def test_alpha_that_is_not_is_transparency(header_bytes):
    pixels = decode(bmp(header_bytes, b"\x10\x20\x30\0" * 7 + b"\x10\x20\x30\xff"))
    assert (pixels == (0x30, 0x20, 0x10)).all(axis=2).sum() == 1
    assert (pixels == 255).all(axis=2).sum() == 7


def test_the_fourth_byte_of_an_old_header_is_no_alpha():
    data = bmp(40, b"\x10\x20\x30\x01" * 8, compression=0)
    assert (decode(data) == (0x30, 0x20, 0x10)).all()


def test_run_lengths_are_read_if_they_are_few():
    runs = b"\x04\x07\0\0\x04\x09\0\1"
    pixels = decode(bmp(40, runs, compression=1, bits=8))
    assert pixels.shape == (2, 4, 3)
    with pytest.raises(UnsupportedImage) as caught:
        decode(bmp(40, runs * (MOST_RUN_BYTES // 8), compression=1, bits=8))
    assert "RLE8" in caught.value.detail
