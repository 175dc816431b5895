import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.server.images.formats.files import SIGNATURE, chunk, encoded, exif, grey_png, packed, png
from vimserve.server.errors import CorruptImage, ImageTooComplex
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.png import essence

MANY = 10**6
GREY, RGB = 0, 2


def decode(data):
    return np.asarray(read_header(data, MANY).picture())


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_is_white_at_every_depth(depth):
    most = 2**depth - 1
    samples = np.random.default_rng(depth).integers(0, most + 1, (24, 40))
    clear = int(samples[3, 5])
    data = png(
        40, 24, depth, GREY, packed(samples, depth), chunk(b"tRNS", struct.pack(">H", clear))
    )
    expected = np.where(samples == clear, 255, (samples * 255 + most // 2) // most)
    np.testing.assert_array_equal(decode(data), np.repeat(expected[..., None], 3, axis=2))


def test_other_shades_with_the_same_high_byte_are_kept():
    samples = np.full((4, 4), 0x1234)
    samples[0, 0] = 0x1235
    data = png(4, 4, 16, GREY, packed(samples, 16), chunk(b"tRNS", b"\x12\x34"))
    assert decode(data)[..., 0].tolist() == [[18, 255, 255, 255], *[[255] * 4] * 3]


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colours_are_white(depth):
    samples = np.random.default_rng(0).integers(0, 2**depth, (24, 40, 3))
    samples[5, 6] = samples[3, 5] + 1  # differs from it in the last bits only
    clear = samples[3, 5]
    kind = ">u2" if depth == 16 else "u1"
    rows = [row.astype(kind).tobytes() for row in samples]
    data = png(40, 24, depth, RGB, rows, chunk(b"tRNS", struct.pack(">3H", *clear)))
    expected = samples >> (depth - 8)
    expected[(samples == clear).all(axis=2)] = 255
    np.testing.assert_array_equal(decode(data), expected)


def test_bits_above_the_depth_do_not_count():
    data = grey_png(chunk(b"tRNS", b"\xff\x4d"))
    assert (decode(data) == 255).all()


def test_a_palette_keeps_its_own_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    pixels = decode(encoded(image, "PNG", transparency=bytes([255, 128])))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[4, 4].tolist() == [147, 152, 157]


TEXT = b"k\0\0" + zlib.compress(bytes(3 * 2**20))
ANCILLARY = {
    "text above 1 MiB": chunk(b"zTXt", TEXT),
    "international text above 1 MiB": chunk(b"iTXt", b"k\0\1\0\0\0" + TEXT[3:]),
    "a profile above 1 MiB": chunk(b"iCCP", TEXT),
    "64 profiles": chunk(b"iCCP", TEXT) * 64,
    "a wrong checksum": chunk(b"tEXt", b"k\0text", damage=1),
    "a transparent shade with a wrong checksum": chunk(b"tRNS", b"\0\x4d", damage=1),
    "a physical size that is too short": chunk(b"pHYs", b"\1"),
    "a damaged animation": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0"),
}


@pytest.mark.parametrize("extra", ANCILLARY.values(), ids=ANCILLARY)
def test_what_is_beside_the_pixels_does_not_matter(extra):
    assert (decode(grey_png(extra)) == 77).all()
    assert (decode(grey_png(after=extra)) == 77).all()


def test_profiles_and_text_do_not_reach_the_decoder():
    plain = essence(grey_png())
    assert essence(grey_png(*ANCILLARY.values())).data == plain.data
    assert essence(grey_png(cuts=7)).data == plain.data


def test_the_number_of_chunks_is_bounded_by_the_size():
    flood = chunk(b"prVt") * 5000
    with pytest.raises(ImageTooComplex) as caught:
        essence(grey_png(flood))
    assert caught.value.limit < caught.value.value
    with pytest.raises(ImageTooComplex):
        essence(grey_png(chunk(b"IDAT") * 5000))
    assert (decode(grey_png(chunk(b"prVt", bytes(1000)) * 5000)) == 77).all()


def test_an_animation_ends_with_its_default_image():
    others = chunk(b"fdAT", bytes(8)) + chunk(b"prVt") * 5000
    assert (decode(grey_png(after=others)) == 77).all()


def test_exif_before_or_after_the_pixels_turns_the_image():
    for place in ("before", "after"):
        data = chunk(b"eXIf", exif(6))
        file = grey_png(data) if place == "before" else grey_png(after=data)
        assert read_header(file, MANY).size == (40, 24)
    assert read_header(grey_png(chunk(b"eXIf", exif(6), damage=1)), MANY).size == (24, 40)


def test_a_wrong_checksum_of_the_header_is_not_overlooked():
    header = struct.pack(">IIBBBBB", 40, 24, 8, 0, 0, 0, 0)
    with pytest.raises(CorruptImage) as caught:
        decode(SIGNATURE + chunk(b"IHDR", header, damage=1) + grey_png()[33:])
    assert "object at" not in caught.value.detail
