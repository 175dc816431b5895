import numpy as np
import pytest
from PIL import Image

from tests.server.images.formats.files import encoded, exif, jpeg, segment, with_empty_scans
from vimserve.server.errors import ImageTooComplex, UnsupportedImage
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats.jpeg import FREE_SCANS, essence

MANY = 10**8


def after_start(data, extra):
    return data[:2] + extra + data[2:]


def decode(data):
    return np.asarray(read_header(data, MANY).picture())


def test_scans_are_bounded_by_the_pixels():
    large = jpeg(4000, progressive=True)
    own = essence(large).passes
    assert 6 <= own < FREE_SCANS
    assert essence(with_empty_scans(large, 40)).passes == own + 40
    with pytest.raises(ImageTooComplex) as caught:
        essence(with_empty_scans(large, 100))
    assert caught.value.value == own + 100
    # They cost little in a small image.
    assert essence(with_empty_scans(jpeg(64, progressive=True), 1500)).passes == own + 1500


def test_what_looks_like_scans_elsewhere_does_not_count():
    large = jpeg(4000, progressive=True)
    own = essence(large).passes
    likeness = b"\xff\xda" * 500
    for data in (
        after_start(large, segment(0xFE, likeness)),
        large + likeness,
        large[:-2] + segment(0xFE, likeness) + large[-2:],
    ):
        assert essence(data).passes <= own + 500
        assert decode(data).shape == (4000, 4000, 3)


@pytest.mark.parametrize("place", ["find", "rfind"])
def test_an_end_in_a_comment_does_not_hide_scans(place):
    bomb = with_empty_scans(jpeg(4000, progressive=True), 300)
    scan = getattr(bomb, place)(b"\xff\xda")
    hidden = bomb[:scan] + segment(0xFE, b"\xff\xd9" * 10) + bomb[scan:]
    with pytest.raises(ImageTooComplex):
        essence(hidden)


def test_metadata_do_not_reach_the_decoder(encode, picture):
    image = picture(64, 64)
    plain = encode(image, "JPEG")
    rich = encode(
        image, "JPEG", icc_profile=bytes(200_000), exif=b"Exif\0\0" + exif(6), comment=b"c"
    )
    assert essence(rich).data == essence(plain).data
    assert essence(rich).orientation == 6
    np.testing.assert_array_equal(
        decode(after_start(plain, segment(0xED, b"x") * 99)), decode(plain)
    )


def test_what_tells_the_colours_is_kept(encode, picture):
    image = picture(64, 64)
    inverted = encode(image.convert("CMYK"), "JPEG")
    np.testing.assert_allclose(decode(inverted).astype(int), np.asarray(image), atol=12)
    kept = encode(image, "JPEG", keep_rgb=True)
    np.testing.assert_allclose(decode(kept).astype(int), np.asarray(image), atol=12)


@pytest.mark.parametrize("extra", [segment(0xFE) * 5000, b"\xff\xd0" * 5000, b"\xff\x00" * 5000])
def test_segments_are_bounded_by_the_size(extra):
    with pytest.raises(ImageTooComplex):
        essence(after_start(jpeg(), extra))


def test_tables_are_bounded():
    table = segment(0xDB, (b"\0" + bytes(range(1, 65))) * 500)
    assert decode(after_start(jpeg(), table)).shape == (64, 64, 3)
    with pytest.raises(ImageTooComplex):
        essence(after_start(jpeg(), table * 3))


@pytest.mark.parametrize(
    ("marker", "bits", "named"),
    [
        (0xC1, 12, "JPEG of 12 bits"),
        (0xC2, 12, "JPEG of 12 bits"),
        (0xC3, 16, "JPEG of 16 bits"),
        (0xF7, 8, "JPEG-LS"),
        (0xC5, 8, "hierarchical JPEG"),
    ],
)
def test_other_kinds_of_jpeg_are_named(marker, bits, named):
    frame = segment(marker, bytes([bits, 0, 24, 0, 40, 1, 1, 0x11, 0]))
    with pytest.raises(UnsupportedImage) as caught:
        read_header(b"\xff\xd8" + frame + segment(0xDA, bytes(6)), MANY)
    assert caught.value.value == named
    assert named in caught.value.detail


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("RGB", {}, 0),
        ("RGB", {"progressive": True, "subsampling": "4:4:4"}, 6),
        ("RGB", {"progressive": True, "subsampling": "4:2:0"}, 3),
        ("L", {"progressive": True}, 2),
        ("CMYK", {"progressive": True, "subsampling": "4:4:4"}, 8),
    ],
)
def test_coefficients_that_are_kept_between_scans_are_counted(mode, options, expected):
    assert essence(encoded(Image.new(mode, (64, 64)), "JPEG", **options)).overhead == expected
