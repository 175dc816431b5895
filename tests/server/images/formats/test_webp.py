import struct

import numpy as np
import pytest
from PIL import Image

from tests.server.images.formats.files import encoded, exif
from vimserve.server.errors import ImageTooComplex
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.webp import essence

RED, CLEAR = (200, 30, 20), (0, 0, 0, 0)


def webp(mode="RGB", colour=RED, **options):
    return encoded(Image.new(mode, (40, 24), colour), "WEBP", **options)


def animation(frames, **options):
    others = [Image.new("RGB", (40, 24), (0, 0, 50 + i)) for i in range(frames)]
    return webp(save_all=True, append_images=others, **options)


def decode(data):
    return np.asarray(read_header(data, 10**6).picture())


def padded(data, extra):
    size = len(data) - 8 + len(extra)
    return data[:4] + struct.pack("<I", size) + data[8:] + extra


def test_the_first_frame_of_an_animation_is_all_that_is_decoded():
    many, few = animation(20, lossless=True), animation(1, lossless=True)
    assert len(essence(many).data) == len(essence(few).data) < len(many) / 5
    assert (decode(many) == RED).all()


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_metadata_do_not_reach_the_decoder(options):
    rich = webp(icc_profile=bytes(3000), exif=b"Exif\0\0" + exif(6), xmp=b"<x/>", **options)
    assert b"ICCP" not in essence(rich).data
    header = read_header(rich, 10**6)
    assert header.size == (40, 24)
    np.testing.assert_allclose(np.asarray(header.picture())[20, 12], RED, atol=4)


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_alpha_is_kept(options):
    image = Image.new("RGBA", (40, 24), (*RED, 255))
    image.paste(CLEAR, (0, 0, 20, 24))
    pixels = decode(encoded(image, "WEBP", exif=exif(1), **options))
    assert (pixels[:, :16] == 255).all()
    np.testing.assert_allclose(pixels[:, 24:], np.broadcast_to(RED, (24, 16, 3)), atol=4)


def test_chunks_are_bounded_by_the_size():
    extended = webp(exif=exif(1))
    assert decode(padded(extended, b"abcd\0\0\0\0" * 100)).shape == (24, 40, 3)
    with pytest.raises(ImageTooComplex):
        essence(padded(extended, b"abcd\0\0\0\0" * 5000))
