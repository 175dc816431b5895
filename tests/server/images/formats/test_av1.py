import pytest

from vimserve.server.errors import ImageTooComplex
from vimserve.server.images.formats.av1 import frame_size, frames
from vimserve.server.images.formats.essence import Pieces


def header(*fields):
    """Bytes of (value, bits) pairs."""
    text = "".join(f"{value:0{bits}b}" for value, bits in fields)
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


SIZE = [(11, 4), (10, 4), (3999, 12), (1999, 11)]  # 4000 × 2000
POINT = [(0, 12), (9, 5), (1, 1)]  # a level above 7 has a tier


@pytest.mark.parametrize(
    "before",
    [
        [(0, 3), (1, 1), (1, 1), (8, 5)],
        [(0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), *POINT],
        [(0, 3), (0, 1), (0, 1), (0, 1), (1, 1), (1, 5), *POINT, (1, 1), (5, 4), *POINT, (0, 1)],
        [
            (0, 3), (0, 1), (0, 1), (1, 1), (7, 64), (1, 1), (1, 3), (2, 2), (1, 1), (4, 5),
            (1, 42), (0, 1), (1, 5), *POINT, (1, 1), (0, 11), *POINT, (0, 1),
        ],
    ],
)  # fmt: skip
def test_the_frame_size_follows_whatever_else_a_header_has(before):
    assert frame_size(header(*before, *SIZE)) == (4000, 2000)


def unit(kind, payload, sized=True):
    head = bytes([kind << 3 | (2 if sized else 0)])
    return head + (bytes([len(payload)]) if sized else b"") + payload


REDUCED = header((0, 3), (1, 1), (1, 1), (8, 5), *SIZE)


def test_frames_are_counted_over_all_units():
    data = (
        unit(2, b"") + unit(1, REDUCED) + unit(6, bytes(100)) * 3 + unit(3, b"ab") + unit(4, b"c")
    )
    assert frames(data, Pieces("units", 10**6)) == (4, 8_000_000)
    assert frames(unit(15, b"x") + unit(6, bytes(50), sized=False), Pieces("units", 9)) == (1, 0)


def test_truncated_and_empty_bitstreams_have_what_is_there():
    assert frames(b"", Pieces("units", 0)) == (0, 0)
    assert frames(unit(1, REDUCED)[:5], Pieces("units", 5))[0] == 0
    assert frames(b"\x32\xff\xff\xff\xff\xff\xff\xff\xff\xff", Pieces("units", 10)) == (1, 0)


def test_units_are_bounded_by_the_size():
    with pytest.raises(ImageTooComplex):
        frames(unit(15, b"") * 5000, Pieces("units", 10_000))
