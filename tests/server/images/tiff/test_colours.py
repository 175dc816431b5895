"""What samples mean: palettes, transparency, inks, luma and chroma, chosen bands."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.server.images.tiff.writer import COMPRESS, tiff
from vimserve.model.samples import SampleRange
from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter, UnsupportedImage
from vimserve.server.images.source import EncodedImage


def decoded(data, **transform):
    return np.asarray(EncodedImage(data).open(10**6).picture(Transform(**transform)))


def ramp(count, bits=8):
    """Samples ``[6, 40, count]`` that go up differently in each band."""
    top = 2**bits - 1
    steps = np.linspace(0, top, 240).reshape(6, 40)
    bands = [steps if i % 2 == 0 else top - steps for i in range(count)]
    bands = [band / (1 + i // 2) for i, band in enumerate(bands)]
    return np.stack(bands, -1).astype(f"u{max(bits // 8, 1)}")


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("factor", [256, 257, 1])
def test_a_palette_of_16_or_of_8_bits(bits, factor):
    entries = 2**bits
    colours = np.random.default_rng(bits).integers(0, 256, (entries, 3))
    indices = np.arange(240).reshape(6, 40, 1) % entries
    table = (3, (colours.T * factor).reshape(-1).tolist())
    data = tiff(indices.astype(f"u{max(bits // 8, 1)}"), bits, photometric=3, tags={320: table})
    # A palette whose entries are all below 256 is one of 8 bits.
    np.testing.assert_array_equal(decoded(data), colours[indices[..., 0]])


def test_a_palette_that_is_too_short_is_named():
    data = tiff(ramp(1), 8, photometric=3, tags={320: (3, [0] * 30)})
    with pytest.raises(UnsupportedImage, match="a palette without its 256 colours"):
        decoded(data)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("extra", [None, 0, 1, 2])
def test_a_fourth_sample(extra, bits, planar):
    """Without a tag it is alpha, as libtiff and Pillow have it; unspecified it is left alone."""
    samples = ramp(4, bits)
    if extra == 1:
        samples = np.minimum(samples, samples[..., 3:])
    tags = {} if extra is None else {338: (3, [extra])}
    shown = samples.astype(float) / (2**bits - 1)
    alpha = shown[..., 3:]
    expected = {0: shown[..., :3], 1: shown[..., :3] + 1 - alpha}.get(
        extra, shown[..., :3] * alpha + 1 - alpha
    )
    ours = decoded(tiff(samples, bits, photometric=2, planar=planar, tags=tags))
    np.testing.assert_allclose(ours, expected * 255, atol=1.01)


def test_grey_with_alpha():
    samples = ramp(2)
    expected = (samples[..., :1] / 255.0 * samples[..., 1:]) + 255 - samples[..., 1:]
    ours = decoded(tiff(samples, 8, tags={338: (3, [2])}))
    np.testing.assert_allclose(ours, np.repeat(expected, 3, 2), atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_inks(bits):
    samples = ramp(4, bits)
    ink = 1 - samples / (2**bits - 1)
    ours = decoded(tiff(samples, bits, photometric=5))
    np.testing.assert_allclose(ours, ink[..., :3] * ink[..., 3:] * 255, atol=1.01)
    if bits == 8:
        assert abs(ours - by_pillow(tiff(samples, bits, photometric=5))).max() <= 1


def ycbcr(picture):
    return np.asarray(Image.fromarray(picture).convert("YCbCr"))


@pytest.mark.parametrize("across", [1, 2, 4])
@pytest.mark.parametrize("down", [1, 2, 4])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_luma_and_chroma(across, down, compression):
    """Chroma that is shared, as TIFF 6.0 stores it, in strips whose last is not whole."""
    flat = np.full((24, 40, 3), 90, np.uint8)
    flat[:12, :20], flat[12:, 20:] = (250, 130, 10), (10, 80, 240)
    stored = ycbcr(flat)

    def units(part):
        height, width = part.shape[0] // down, part.shape[1] // across
        blocks = part.reshape(height, down, width, across, 3).transpose(0, 2, 1, 3, 4)
        luma = blocks[..., 0].reshape(height, width, -1)
        whole = np.concatenate([luma, blocks[:, :, 0, 0, 1:]], axis=2).tobytes()
        return COMPRESS[compression](whole)

    tags = {530: (3, [across, down]), 532: (5, [(n, 1) for n in (0, 255, 128, 255, 128, 255)])}
    data = tiff(stored, 8, rows=16, photometric=6, compression=compression, tags=tags, encode=units)
    ours = decoded(data)
    np.testing.assert_allclose(ours, flat, atol=3)
    if compression != 1 and (across, down) not in ((1, 4), (2, 4)):  # libtiff has not these two
        assert abs(ours - by_pillow(data)).max() <= 3


@pytest.mark.parametrize("photometric", [2, 6])
@pytest.mark.parametrize("quality", [40, 95])
def test_jpegs_are_what_libtiff_makes_of_them(photometric, quality):
    picture = Image.fromarray(ramp(3)).resize((150, 90), Image.Resampling.BICUBIC)
    mode = "RGB" if photometric == 2 else "YCbCr"
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "TIFF", compression="jpeg", quality=quality)
    data = buffer.getvalue()
    assert abs(decoded(data) - by_pillow(data)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_one_and_of_four_components(mode):
    picture = Image.fromarray(ramp(3)).resize((150, 90)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", compression="jpeg", quality=90)
    assert abs(decoded(buffer.getvalue()) - by_pillow(buffer.getvalue())).max() <= 2


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("white", [0, 255])
def test_faxes_are_what_libtiff_makes_of_them(compression, white):
    bits = np.random.default_rng(0).random((70, 93)) < 0.3
    buffer = io.BytesIO()
    picture = Image.fromarray(np.where(bits, white, 255 - white).astype(np.uint8)).convert("1")
    picture.save(buffer, "TIFF", compression=compression)
    np.testing.assert_array_equal(decoded(buffer.getvalue())[..., 0], np.asarray(picture) * 255)


def test_bands_are_chosen_from_many():
    samples = ramp(5, 16)
    for planar in (False, True):
        data = tiff(samples, 16, planar=planar, tags={338: (3, [0] * 4)})
        ours = decoded(data, bands=(4, 3, 2))
        np.testing.assert_allclose(ours, samples[..., [3, 2, 1]] / 257, atol=0.5)
        with pytest.raises(UnsupportedImage, match=r"5 samples of 16-bit unsigned.*bands="):
            decoded(data)
        with pytest.raises(InvalidParameter, match="band 6 of an image that has 5") as caught:
            decoded(data, bands=(1, 2, 6))
        assert (caught.value.parameter, caught.value.limit) == ("bands", 5)


def test_one_range_for_all_bands_keeps_their_ratios():
    samples = ramp(3, 16)
    image = EncodedImage(tiff(samples, 16, photometric=2)).open(10**6)
    image.picture(Transform(range=SampleRange("percentiles", 2, 98)))
    assert image.sample_range is not None
    np.testing.assert_allclose(image.sample_range, np.percentile(samples, (2, 98)))


def test_bands_of_a_palette_are_refused():
    data = tiff(ramp(1), 8, photometric=3, tags={320: (3, [0] * 768)})
    with pytest.raises(InvalidParameter):
        decoded(data, bands=(1, 1, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation, encode):
    stored = Image.fromarray(ramp(3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, "TIFF", exif=exif)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))
