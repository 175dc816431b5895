"""What the package offers: pictures of Pillow's making, and what decoding takes."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tests.server.images.tiff.writer import tiff
from vimserve.model.samples import SampleRange
from vimserve.model.transform import Transform
from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.source import EncodedImage
from vimserve.server.images.tiff import TiffImage


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_what_pillow_writes(mode, compression, picture, encode):
    if mode[0] == "I":
        stored = Image.fromarray(
            np.asarray(picture(40, 56))[..., 0].astype("u2" if ";" in mode else "i4")
        )
        wanted = Transform(range=SampleRange("values", 0, 255))
    else:
        stored = picture(40, 56).quantize(16) if mode == "P" else picture(40, 56).convert(mode)
        wanted = Transform()
    image = EncodedImage(encode(stored, "TIFF", compression=compression)).open(10**6)
    assert isinstance(image, TiffImage)
    assert image.size == (40, 56)
    expected = np.asarray(stored) if mode[0] == "I" else np.asarray(stored.convert("RGB"))
    ours = np.asarray(image.picture(wanted)).astype(int)
    assert abs(ours - expected.reshape(40, 56, -1)).max() <= 1


@pytest.mark.parametrize("mode", ["LAB", "F"])
def test_what_has_no_obvious_meaning(mode, encode):
    stored = Image.new(mode, (40, 24), 7 if mode == "F" else 0)
    with pytest.raises(UnsupportedImage, match=r"L\*a\*b\*|32-bit floating point from 7 to 7"):
        EncodedImage(encode(stored, "TIFF")).open(10**6).picture(Transform())


def test_small_files_are_quick():
    small = np.zeros((640, 800, 3), np.uint16)
    assert EncodedImage(tiff(small, 16, photometric=2)).open(10**6).picture_cost().quick
    tiled = np.zeros((640, 800, 1), np.uint8)
    assert not EncodedImage(tiff(tiled, 8, tile=(16, 16))).open(10**6).picture_cost().quick
    large = np.zeros((1280, 800, 3), np.uint16)
    assert not EncodedImage(tiff(large, 16, photometric=2)).open(10**7).picture_cost().quick


@pytest.mark.parametrize("wanted", ["dtype", "percentiles"])
@pytest.mark.parametrize(
    ("kind", "bits", "compression", "tile"),
    [
        ("u2", 16, 1, None), ("u2", 16, 8, None), ("u2", 12, 5, None), ("u4", 24, 8, None),
        ("f8", 64, 8, None), ("u1", 8, 34925, None), ("u4", 32, 50000, (256, 256)),
    ],
)  # fmt: skip
def test_decoding_takes_no_more_memory_than_said(kind, bits, compression, tile, wanted):
    samples = np.zeros((1400, 1200, 3), kind)
    predictor = 2 if bits == 16 and compression == 8 else 3 if bits == 64 else 1
    data = tiff(
        samples, bits, photometric=2, compression=compression, tile=tile, predictor=predictor
    )
    image = EncodedImage(data).open(10**7)
    assert isinstance(image, TiffImage)
    transform = Transform(range=SampleRange(wanted, 2, 98))
    tracemalloc.start()
    image.picture(transform)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Pillow's own picture is not traced.
    assert peak <= image.picture_cost().num_bytes - 4 * 1400 * 1200
