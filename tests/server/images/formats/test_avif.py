import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from tests.server.images.formats.files import encoded, exif
from vimserve.server.errors import ImageTooComplex, ImageTooLarge, UnsupportedImage
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


def still(width=300, height=200, mode="RGB"):
    return encoded(Image.new(mode, (width, height), 99), "AVIF", speed=10)


def declaring(data, width, height):
    """The same file whose image is said to have another size."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize(("mode", "frames"), [("RGB", 1), ("RGBA", 2)])
def test_the_frames_of_all_items_are_counted(mode, frames):
    image = Image.new("RGBA", (300, 200), (9, 99, 200, 40)).convert(mode)
    file = essence(encoded(image, "AVIF", speed=10))
    assert frames <= file.passes <= frames + 1  # alpha refers to what it belongs to
    assert file.frame_pixels == 300 * 200


def test_frames_larger_than_the_image_are_refused():
    lie = declaring(still(6000, 6000), 64, 64)
    assert essence(lie).frame_pixels == 36_000_000
    with pytest.raises(ImageTooComplex):
        read_header(lie, 10**8)
    with pytest.raises(ImageTooLarge):
        read_header(lie, 10**7)


def test_more_frames_than_an_image_needs_are_refused():
    data = still(2000, 2000)
    start, end = data.index(b"mdat") + 4, len(data)
    units = data[start:end]
    # The frame many times: only the last would be shown.
    (length,) = struct.unpack_from(">I", data, data.index(b"iloc") + 22)
    assert length == len(units)
    place = data.index(b"iloc") + 22
    many = data[:place] + struct.pack(">I", length * 40) + data[place + 4 : start - 8]
    bomb = many + struct.pack(">I", 8 + length * 40) + b"mdat" + units * 40
    assert essence(bomb).passes == 40
    with pytest.raises(ImageTooComplex):
        read_header(bomb, 10**8)


def test_boxes_are_bounded_by_the_size():
    with pytest.raises(ImageTooComplex):
        essence(sequence(1) + b"\0\0\0\x08free" * 5000)
