"""Ranges and bands of what Pillow reads: PNG of 16 bits has a range, all others have bands."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vimserve.model.samples import SampleRange
from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage, InvalidParameter
from vimserve.server.images.source import EncodedImage

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
COUNTS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}
UP_TO_4095 = Transform(resolution=None, fit="contain", range=SampleRange("values", 0, 4095))


def png(samples, kind, transparent=None):
    """A PNG of 16-bit samples ``[H, W, S]``."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    key = b"" if transparent is None else chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def samples(count):
    return np.random.default_rng(count).integers(0, 5000, (32, 48, count)).astype(np.uint16)


def scaled(values):
    return np.floor(values / 4095 * 255 + 0.5).clip(0, 255)


@pytest.mark.parametrize("kind", [GREY, RGB])
def test_a_range_of_16_bit_png(kind):
    values = samples(COUNTS[kind])
    image = EncodedImage(png(values, kind)).open(10**6)
    expected = np.broadcast_to(scaled(values), (32, 48, 3))
    np.testing.assert_array_equal(image.picture(UP_TO_4095), expected)
    assert image.sample_range == (0, 4095)
    np.testing.assert_array_equal(image.pixels(UP_TO_4095).permute(1, 2, 0), expected)


@pytest.mark.parametrize("kind", [GREY_ALPHA, RGBA])
def test_alpha_has_its_own_range(kind):
    values = samples(COUNTS[kind])
    values[..., -1] = np.where(values[..., -1] > 2500, 65535, 0)
    expected = np.where(values[..., -1:] > 0, scaled(values[..., :-1]), 255)
    ours = EncodedImage(png(values, kind)).open(10**6).picture(UP_TO_4095)
    np.testing.assert_array_equal(ours, np.broadcast_to(expected, (32, 48, 3)))


@pytest.mark.parametrize("kind", [GREY, RGB])
def test_the_transparent_colour_is_white(kind):
    values = samples(COUNTS[kind])
    data = png(values, kind, transparent=values[3, 5])
    ours = np.asarray(EncodedImage(data).open(10**6).picture(UP_TO_4095))
    assert ours[3, 5].tolist() == [255, 255, 255]


def test_percentiles_and_the_default():
    values = samples(1)
    image = EncodedImage(png(values, GREY)).open(10**6)
    image.picture(Transform(range=SampleRange("percentiles", 1, 99)))
    assert image.sample_range is not None
    np.testing.assert_allclose(image.sample_range, np.percentile(values, (1, 99)))
    image.picture(Transform())
    assert image.sample_range == (0, 65535)


def test_a_png_with_a_range_is_turned_upright(encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(samples(1)[..., 0])
    image = EncodedImage(encode(stored, exif=exif)).open(10**6)
    assert image.size == (48, 32)
    np.testing.assert_array_equal(
        np.asarray(image.picture(UP_TO_4095))[..., 0], np.rot90(scaled(samples(1)[..., 0]), -1)
    )


def test_a_damaged_png_with_a_range():
    data = png(samples(3), RGB)
    with pytest.raises(CorruptImage, match="truncated or damaged"):
        EncodedImage(data[:-3000]).open(10**6).picture(UP_TO_4095)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_8_bits_have_no_range_but_say_so_if_asked(kind, picture, encode):
    data = encode(picture(32, 48), kind)
    image = EncodedImage(data).open(10**6)
    plain = np.asarray(image.picture(Transform()))
    assert image.sample_range is None
    np.testing.assert_array_equal(image.picture(UP_TO_4095), plain)
    assert image.sample_range == (0, 255)


@pytest.mark.parametrize("bands", [(3, 2, 1), (2,), (1, 1, 2)])
def test_bands(bands, picture, encode):
    image = EncodedImage(encode(picture(32, 48))).open(10**6)
    chosen = Transform(resolution=None, fit="contain", bands=bands)
    order = [band - 1 for band in bands] * (3 // len(bands))
    expected = np.asarray(picture(32, 48))[..., order]
    np.testing.assert_array_equal(image.picture(chosen), expected)
    np.testing.assert_array_equal(image.pixels(chosen).permute(1, 2, 0), expected)


def test_bands_that_are_not_there(picture, encode):
    image = EncodedImage(encode(picture(32, 48))).open(10**6)
    for read in (image.picture, image.pixels):
        with pytest.raises(InvalidParameter, match="band 4 of an image that has 3"):
            read(Transform(bands=(4, 3, 2)))
