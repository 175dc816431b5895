import numpy as np
import pytest
from PIL import Image

from tests.server.images.formats.files import encoded
from vimserve.server.errors import ImageTooComplex
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.gif import essence


def gif(**options):
    image = Image.new("P", (40, 24), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, "GIF", **options)


def decode(data):
    return np.asarray(read_header(data, 10**6).picture())


def before_frame(data, extra):
    frame = data.index(b",\0\0\0\0")
    return data[:frame] + extra + data[frame:]


def test_what_the_first_frame_does_not_cover_is_white():
    data = bytearray(gif())
    data[6:10] = b"\x30\0\x20\0"  # the screen: 48 × 32
    frame = data.index(b",\0\0\0\0")
    data[frame + 1 : frame + 5] = b"\x05\0\x04\0"
    pixels = decode(bytes(data))
    assert pixels.shape == (32, 48, 3)
    inside = np.zeros((32, 48), dtype=bool)
    inside[4:28, 5:45] = True
    assert (pixels[inside] == (200, 100, 50)).all()
    assert (pixels[~inside] == 255).all()


def test_a_frame_beyond_the_screen_is_whole():
    data = bytearray(gif())
    data[6:10] = b"\x10\0\x40\0"  # 16 × 64
    pixels = decode(bytes(data))
    assert pixels.shape == (64, 40, 3)
    assert (pixels[:24] == (200, 100, 50)).all()
    assert (pixels[24:] == 255).all()


def test_later_frames_and_comments_do_not_matter():
    comment = b"\x21\xfe" + b"\x03abc" * 5 + b"\0"
    data = before_frame(gif(), comment)
    assert essence(data).data == essence(gif()).data
    assert (
        decode(data[:-1] + data[data.index(b",\0\0\0\0") : -1] * 5000 + b";") == (200, 100, 50)
    ).all()


def test_the_control_block_of_the_frame_is_kept():
    comment = b"\x21\xfe\x03abc\0"
    assert (decode(before_frame(gif(transparency=1), comment)) == 255).all()


@pytest.mark.parametrize(
    "extra", [b"\x21\xfe" + b"\x01a" * 5000 + b"\0", b"\x21\xfe\0" * 5000, b"\0" * 5000]
)
def test_blocks_before_the_frame_are_bounded_by_the_size(extra):
    with pytest.raises(ImageTooComplex):
        essence(before_frame(gif(), extra))
