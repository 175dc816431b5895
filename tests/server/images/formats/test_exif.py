import struct

import pytest

from tests.server.images.formats.files import exif
from vimserve.server.images.formats.exif import orientation


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_is_read_in_either_byte_order(order, prefix):
    assert [orientation(prefix + exif(i, order)) for i in range(1, 9)] == list(range(1, 9))


def test_a_long_orientation():
    entry = struct.pack("<HHII", 0x0112, 4, 1, 6)
    assert orientation(b"II*\0\x08\0\0\0" + b"\1\0" + entry) == 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MM",
        exif(0),
        exif(9),
        exif(6)[:12],
        b"XX" + exif(6)[2:],
        b"MM\0*\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff" + bytes(100),
        b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x0112, 2, 1, 6, 0),
    ],
)
def test_what_is_no_orientation_is_upright(data):
    assert orientation(data) == 1


def test_a_directory_is_not_read_without_end():
    entries = struct.pack(">HHIHH", 0x0100, 3, 1, 1, 0) * 60_000
    late = exif(6)[10:]
    assert orientation(b"MM\0*\0\0\0\x08" + struct.pack(">H", 60_001) + entries + late) == 1
