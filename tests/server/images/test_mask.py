import io

import numpy as np
import pytest
from PIL import Image

from vimserve.model.palette import make_palette
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.mask import (
    JPEG_SIDE,
    LEAST_WIDTH,
    MOST_ENTRIES,
    OPACITY,
    overlay,
    to_png,
)

PALETTE = make_palette(256)
CLASSES = np.repeat(np.arange(4, dtype=np.uint8), 100).reshape(4, 100).repeat(75, axis=0)


def opened(data):
    return Image.open(io.BytesIO(data))


def page_of(entries, width):
    """A black picture, 10 pixels high, with a legend."""
    picture, classes = Image.new("RGB", (width, 10)), np.zeros((10, width), np.uint8)
    return opened(overlay(picture, classes, PALETTE, entries))


def test_a_png_has_the_classes_and_their_colours():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = opened(to_png(every, PALETTE))
    assert (mask.format, mask.mode) == ("PNG", "P")
    assert (np.asarray(mask) == every).all()
    assert (np.asarray(mask.convert("RGB")).reshape(-1, 3) == PALETTE).all()


def test_an_overlay_tints_the_picture():
    picture = Image.new("RGB", (100, 300), (200, 100, 0))
    page = opened(overlay(picture, CLASSES, PALETTE, [("one", 0)]))
    assert page.format == "JPEG"
    for index in range(4):
        expected = np.add(
            np.multiply(PALETTE[index], OPACITY), np.multiply((200, 100, 0), 1 - OPACITY)
        )
        np.testing.assert_allclose(page.getpixel((50, 75 * index + 37)), expected, atol=6)


def test_the_legend_has_a_square_in_each_class_s_colour():
    page = page_of([("sky 40.0%", 1), ("a dog 3.0%", 2), ("grass 0.1%", 4)], width=800)
    pixels = np.asarray(page)[10:].reshape(-1, 3).astype(int)
    for index in (1, 2, 4):
        near = np.abs(pixels - PALETTE[index]).max(1) < 12
        assert near.sum() > 100, index
    assert not (np.abs(pixels - PALETTE[3]).max(1) < 12).any()
    assert (pixels.max(1) < 60).any(), "no text"


def test_the_legend_names_so_many_and_counts_the_rest():
    entries = [(f"class {i}", i) for i in range(MOST_ENTRIES + 9)]
    few, most, more, all_of_them = (
        page_of(entries[:n], width=LEAST_WIDTH).height
        for n in (3, MOST_ENTRIES, MOST_ENTRIES + 1, MOST_ENTRIES + 9)
    )
    assert few < most <= more == all_of_them


def test_a_narrow_picture_gets_room_for_its_legend():
    page = opened(overlay(Image.new("RGB", (5, 300)), CLASSES[:, :5], PALETTE, [("thing 100%", 3)]))
    assert page.width == LEAST_WIDTH
    assert page.height > 300


def test_a_side_that_no_jpeg_has_is_refused_with_the_way_out():
    height = JPEG_SIDE - 10
    picture, classes = Image.new("RGB", (8, height)), np.zeros((height, 8), np.uint8)
    with pytest.raises(ImageTooLarge, match="format=png") as caught:
        overlay(picture, classes, PALETTE, [("thing", 0)])
    assert caught.value.limit == JPEG_SIDE
    assert caught.value.value > JPEG_SIDE
    assert opened(to_png(classes, PALETTE)).height == height
