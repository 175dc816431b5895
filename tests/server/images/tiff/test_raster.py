"""What the tags of a TIFF say of it as a raster."""

import math

import numpy as np
import pytest

from tests.server.images.tiff.writer import tiff
from vimserve.server.images.source import EncodedImage
from vimserve.server.images.tiff.raster import ASCII, DOUBLE, SHORT

SAMPLES = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
SCALE, TIEPOINTS, KEYS = [0.5, 0.25, 0.0], [0.0, 0, 0, 440720, 3751320, 0], [1, 1, 0, 0]
PLACED = {
    33550: (DOUBLE, SCALE),
    33922: (DOUBLE, TIEPOINTS),
    34735: (SHORT, KEYS),
    34737: (ASCII, [*b"WGS 84|", 0]),
}


def raster_of(data):
    return EncodedImage(data).open(10**6).raster


def georeference(**tags):
    return {
        tag.number: (tag.type, tag.values.tolist())
        for tag in raster_of(tiff(SAMPLES, 8, **tags)).georeference
    }


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_the_tags_in_every_byte_order_and_size(order, big):
    assert georeference(order=order, big=big, tags=PLACED) == PLACED


def test_no_tags():
    assert georeference() == {}
    assert raster_of(tiff(SAMPLES, 8)).nodata is None


@pytest.mark.parametrize(
    "tag",
    [
        {33550: (SHORT, [1, 1, 0])},
        {33550: (DOUBLE, [1.0, 1.0])},
        {33922: (DOUBLE, 5 * [1.0])},
        {33922: (DOUBLE, [])},
        {34264: (DOUBLE, 32 * [1.0])},
        {34735: (4, KEYS)},
        {34735: (SHORT, [1, 1, 0])},
        {34735: (SHORT, (2**16 + 4) * [0])},
        {34737: (7, [*b"WGS 84"])},
    ],
)
def test_half_a_georeference_is_none(tag):
    assert georeference(tags=PLACED | tag) == {}


def pointing(data, tag, at, count):
    """The file, whose tag has other values elsewhere; it is a classic one with ``<``."""
    entry = data.index(tag.to_bytes(2, "little") + DOUBLE.to_bytes(2, "little"))
    changed = count.to_bytes(4, "little") + at.to_bytes(4, "little")
    return data[: entry + 4] + changed + data[entry + 12 :]


@pytest.mark.parametrize(
    ("at", "count"), [(2**32 - 1, 6), (2**31, 6), (8, 2**32 - 1), (8, 6 * 2**28), (100, 600)]
)
def test_tags_that_lie_outside_of_the_file(at, count):
    data = pointing(tiff(SAMPLES, 8, tags=PLACED), 33922, at, count)
    assert raster_of(data).georeference == ()
    # They are nothing that the picture needs.
    assert EncodedImage(data).open(10**6).size == (3, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"255\0", 255),
        (b" -9999 \0", -9999),
        (b"1e3", 1000),
        (b"18446744073709551615\0", 2**64 - 1),
        (b"none\0", None),
        (b"\0", None),
        (b"\xff\xfe", None),
        (64 * b"9" + b"\0", int(64 * "9")),
    ],
)
def test_the_value_of_what_shows_nothing(text, value):
    assert raster_of(tiff(SAMPLES, 8, tags={42113: (ASCII, [*text])})).nodata == value


@pytest.mark.parametrize("tag", [(DOUBLE, [math.nan]), (DOUBLE, [1e300]), (SHORT, [55])])
def test_what_is_no_text_is_no_value(tag):
    assert raster_of(tiff(SAMPLES, 8, tags={42113: tag})).nodata is None


@pytest.mark.parametrize("orientation", [0, 9, 2**16 + 6])
def test_an_orientation_that_there_is_not_is_none(orientation):
    assert raster_of(tiff(SAMPLES, 8, tags={274: (4, [orientation])})).orientation == 1


def test_no_number_is_a_value_too():
    samples = np.array([[[0.5], [np.nan]], [[1.0], [np.nan]]], np.float32)
    raster = raster_of(tiff(samples, 32, tags={42113: (ASCII, [*b"nan\0"])}))
    assert math.isnan(raster.nodata)
    assert raster.shows_nothing(None).tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize(
    ("dtype", "text", "nothing"),
    [
        ("u1", b"7", [7]),
        ("u1", b"-1", []),
        ("u1", b"7.5", []),
        ("u1", b"inf", []),
        ("u1", b"nan", []),
        ("i2", b"-3", [-3]),
        ("u2", b"70000", []),
        ("f4", b"0.1", [0.1]),
        ("f4", b"1e300", []),
    ],
)
def test_which_samples_show_nothing(dtype, text, nothing):
    values = [*nothing, 5]
    samples = np.array(values, dtype).reshape(1, -1, 1)
    data = tiff(samples, 8 * samples.itemsize, tags={42113: (ASCII, [*text])})
    found = raster_of(data).shows_nothing(None)
    assert found.tolist() == [[*(True for _ in nothing), False]]


def test_a_pixel_shows_something_if_one_of_the_bands_that_are_looked_at_does():
    samples = np.array([[[0, 0, 0, 9], [0, 0, 1, 0], [0, 0, 0, 0]]], np.uint16)
    data = tiff(samples, 16, tags={42113: (ASCII, [*b"0\0"])}, tile=(16, 16), planar=True)
    nothing = {bands: raster_of(data).shows_nothing(bands) for bands in [(1, 2, 3), (4,)]}
    assert nothing[1, 2, 3].tolist() == [[True, False, True]]
    assert nothing[4,].tolist() == [[False, True, True]]
