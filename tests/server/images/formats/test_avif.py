import io

import numpy as np
import pytest
from PIL import Image, features

from tests.server.images.formats.files import encoded, exif
from vimserve.server.errors import ImageTooComplex, UnsupportedImage
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.avif import essence

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FIRST = (200, 30, 20)


def sequence(frames):
    images = [Image.new("RGB", (40, 24), (0, 0, 50 + i)) for i in range(frames)]
    return encoded(
        Image.new("RGB", (40, 24), FIRST), "AVIF", save_all=True, append_images=images, speed=10
    )


def test_a_sequence_is_answered_by_its_still_image():
    data = sequence(8)
    assert b"moov" in data
    assert b"moov" not in essence(data).data
    with Image.open(io.BytesIO(essence(data).data)) as still:
        assert still.format == "AVIF"
        with pytest.raises(EOFError):
            still.seek(1)
    header = read_header(data, 10**6)
    np.testing.assert_allclose(np.asarray(header.picture())[12, 20], FIRST, atol=6)


def test_a_sequence_without_a_still_image_is_refused():
    data = sequence(2)
    end = data.index(b"meta") - 4
    with pytest.raises(UnsupportedImage, match="sequence"):
        read_header(data[:end] + data[end:].replace(b"meta", b"free", 1), 10**6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_the_properties(orientation):
    image = Image.new("RGB", (40, 24), FIRST)
    turned = read_header(encoded(image, "AVIF", exif=exif(orientation), speed=10), 10**6)
    assert turned.size == ((40, 24) if orientation >= 5 else (24, 40))


def test_boxes_are_bounded_by_the_size():
    with pytest.raises(ImageTooComplex):
        essence(sequence(1) + b"\0\0\0\x08free" * 5000)
