"""Costs against what the decoders are known to hold, format by format."""

import numpy as np
import pytest
from PIL import Image

from vimserve.model.transform import Transform
from vimserve.server.images.cost import QUICK_PIXELS, picture_bytes, working_bytes
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats import BY_PILLOW

SIDE = 512
PIXELS = SIDE * SIDE
TRANSFORM = Transform()


def cost(data, transform=TRANSFORM):
    return read_header(data, 10**8).pixels_cost(transform)


def variable(data):
    """Bytes per pixel, without what does not depend on the pixels."""
    return (cost(data).num_bytes - working_bytes(PIXELS) - len(data)) / PIXELS


@pytest.fixture
def noise():
    values = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "least", "most"),
    [
        ("PNG", "L", {}, 1, 3),
        ("PNG", "RGB", {}, 4, 6),
        ("PNG", "RGBA", {}, 4, 6),
        ("JPEG", "RGB", {}, 1, 3),  # at half the size
        ("JPEG", "RGB", {"progressive": True, "subsampling": "4:4:4"}, 7, 9),
        ("WEBP", "RGB", {}, 16, 20),
        ("GIF", "P", {}, 1, 3),
        ("BMP", "RGB", {}, 4, 6),
    ],
)
def test_bytes_for_a_pixel(kind, mode, options, least, most, noise, encode):
    assert least <= variable(encode(noise.convert(mode), kind, **options)) <= most


def test_16_bit_grey_takes_two_bytes(encode):
    assert 2 <= variable(encode(Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)))) <= 4


def test_an_image_on_its_side_is_there_twice(noise, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert variable(encode(noise.convert("RGB"), exif=exif)) >= 8


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_small_images_are_quick(kind, picture, encode):
    assert cost(encode(picture(64, 64), kind)).quick
    large = Image.new("L", (QUICK_PIXELS // 1000 + 1, 1000))
    assert not cost(encode(large, kind)).quick


def test_many_scans_are_not_quick(encode):
    image = Image.new("L", (1500, 1500))
    assert cost(encode(image, "JPEG")).quick
    data = encode(image, "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    scan = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    assert not cost(data[:-2] + scan * 100 + data[-2:]).quick


def test_a_high_narrow_picture_has_little_between_the_passes(encode):
    data = encode(Image.new("L", (1, 2**20)))
    transform = Transform(512, "contain")
    assert cost(data, transform).num_bytes < 2**20 * 20 + working_bytes(2**20) + 4 * 2**24


def test_a_whole_picture_of_another_mode_is_there_twice(noise, encode):
    grey = read_header(encode(noise.convert("L")), 10**8)
    rgb = read_header(encode(noise.convert("RGB")), 10**8)
    own = picture_bytes("RGB", SIDE, SIDE)
    assert grey.picture_cost().num_bytes > own + PIXELS
    assert rgb.picture_cost().num_bytes < 2 * own + working_bytes(PIXELS) + PIXELS * 4
