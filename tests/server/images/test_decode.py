import struct
import weakref
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from vimserve.server.errors import CorruptImage, EmptyBody, ImageTooLarge, UnsupportedImage
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats import BY_PILLOW, FORMATS

ORANGE = (250, 130, 10)
MANY = 10**7
LOSSY = ("JPEG", "WEBP", "AVIF")


def decode(data, max_pixels=MANY, needed=None):
    header = read_header(data, max_pixels)
    return header.decode(needed or header.size)


def colour(data):
    """The colour of a picture of one colour, away from its edges."""
    picture = decode(data)
    assert picture.image.mode == "RGB"
    assert picture.size == (24, 40)
    return np.array(picture.image)[8:16, 8:32].reshape(-1, 3).mean(axis=0)


def plain(colour=ORANGE):
    return Image.new("RGB", (40, 24), colour)


@pytest.mark.parametrize("kind", BY_PILLOW)
def test_every_format_keeps_its_colours(kind, encode):
    tolerance = 4 if kind in LOSSY else 0
    np.testing.assert_allclose(colour(encode(plain(), kind)), ORANGE, atol=tolerance)


def test_avif_is_there_with_this_pillow():
    assert ("AVIF" in FORMATS) == features.check("avif")


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("1", ("PNG", "BMP", "GIF")),
        ("L", ("JPEG", "PNG", "BMP", "GIF")),
        ("LA", ("PNG",)),
        ("P", ("PNG", "BMP", "GIF")),
        ("RGBA", ("PNG", "WEBP", "BMP", "GIF", "AVIF")),
        ("CMYK", ("JPEG",)),
        ("YCbCr", ("JPEG",)),
    ],
)
def test_every_mode_means_the_same_colour(mode, kinds, encode):
    image = {"P": plain().quantize(4), "1": plain("white")}.get(mode, plain()).convert(mode)
    expected = np.array(image.convert("RGB"))[12, 20]
    for kind in kinds:
        np.testing.assert_allclose(colour(encode(image, kind)), expected, atol=4, err_msg=kind)


def test_16_bit_grey_is_scaled(encode):
    grey = Image.fromarray(np.full((24, 40), 200 * 257, dtype=np.uint16))
    assert list(colour(encode(grey))) == [200, 200, 200]


def test_transparency_is_laid_on_white(encode):
    half = Image.new("RGBA", (40, 24), (0, 0, 0, 128))
    assert list(colour(encode(half))) == [127, 127, 127]
    clear = Image.new("LA", (40, 24), (0, 0))
    assert list(colour(encode(clear))) == [255, 255, 255]
    palette = plain().quantize(2)
    index = palette.getpixel((0, 0))
    assert list(colour(encode(palette, "GIF", transparency=index))) == [255, 255, 255]
    assert list(colour(encode(plain(), "PNG", transparency=ORANGE))) == [255, 255, 255]


def test_the_first_frame_of_an_animation(encode):
    data = encode(plain(), "GIF", save_all=True, append_images=[plain((0, 0, 255))])
    assert list(colour(data)) == list(ORANGE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_orientation(kind, orientation, encode):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("blue", (32, 16, 48, 32))
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = read_header(encode(stored, kind, exif=exif), MANY)
    picture = header.decode(header.size)
    assert header.size == (32, 48)
    assert picture.size == (32, 48)
    assert picture.image.size == (48, 32)
    pixels = np.asarray(picture.image)
    red, blue = pixels[6, 6], pixels[25, 40]
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_an_orientation_in_xmp_alone_is_none_as_in_browsers(kind, encode):
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    assert read_header(encode(plain(), kind, xmp=xmp), MANY).size == (24, 40)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    assert read_header(encode(plain(), "PNG", pnginfo=text), MANY).size == (24, 40)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_does_not_spoil_the_pixels(encode):
    data = encode(plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09broken")
    np.testing.assert_allclose(colour(data), ORANGE, atol=4)


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ((50, 75), (50, 75)),
        ((51, 75), (100, 150)),
        ((40, 100), (100, 150)),
        ((400, 600), (400, 600)),
    ],
)
def test_a_jpeg_is_reduced_but_never_below_what_is_needed(needed, expected, picture, encode):
    decoded = decode(encode(picture(400, 600), "JPEG"), MANY, needed)
    assert decoded.size == (400, 600)
    assert (decoded.image.height, decoded.image.width) == expected


def test_a_jpeg_on_its_side_is_reduced_too(picture, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(400, 600), "JPEG", exif=exif)
    decoded = decode(data, MANY, (150, 100))
    assert decoded.size == (600, 400)
    assert decoded.image.size == (100, 150)


def test_the_pixel_limit_is_inclusive_and_checked_before_decoding(encode):
    data = encode(plain())
    decode(data, 24 * 40)
    with pytest.raises(ImageTooLarge) as caught:
        read_header(data, 24 * 40 - 1)
    assert (caught.value.limit, caught.value.value) == (24 * 40 - 1, 24 * 40)


@pytest.mark.parametrize("side", [20_000, 100_000])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    )
    with pytest.raises(ImageTooLarge) as caught:
        decode(data)
    assert (caught.value.limit, caught.value.value) == (MANY, side * side)


def test_no_bytes():
    with pytest.raises(EmptyBody) as caught:
        decode(b"")
    assert (caught.value.limit, caught.value.value) == (1, 0)


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7 ...", b"<svg></svg>", bytes(100), b"{"])
def test_not_an_image(data):
    with pytest.raises(UnsupportedImage) as caught:
        decode(data)
    assert caught.value.limit == FORMATS
    assert isinstance(caught.value.value, str)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "JPEG2000"])
def test_formats_that_are_not_offered_are_not_decoded(kind, encode):
    with pytest.raises(UnsupportedImage):
        decode(encode(plain(), kind))


@pytest.mark.parametrize("kind", BY_PILLOW)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated(kind, part, encode):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    cut = data[: max(int(len(data) * part), 16)]
    with pytest.raises(CorruptImage) as caught:
        decode(cut)
    assert caught.value.limit == f"a complete {kind}"
    assert "object at" not in caught.value.detail
    assert caught.value.value == f"{len(cut)} bytes"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", BY_PILLOW)
def test_damaged_bytes_end_in_a_picture_or_a_typed_error(kind, encode, picture):
    data = encode(picture(48, 48), kind)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = np.frombuffer(data, dtype=np.uint8).copy()
        damaged[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
        with suppress(CorruptImage, UnsupportedImage, ImageTooLarge):
            assert decode(damaged.tobytes()).image.mode == "RGB"


def test_another_call_decodes_anew(picture, encode):
    header = read_header(encode(picture(320, 400), "JPEG"), 10**6)
    assert header.decode((40, 50)).image.size == (50, 40)
    assert header.decode((320, 400)).image.size == (400, 320)
    assert header.decode((40, 50)).image.size == (50, 40)


def test_a_header_keeps_no_pixels(picture, encode):
    header = read_header(encode(picture(64, 64)), 10**6)
    pixels = weakref.ref(header.decode((64, 64)).image)
    assert pixels() is None
    assert header.size == (64, 64)
