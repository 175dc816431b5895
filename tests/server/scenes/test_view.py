"""What a model gets to see of a scene, and where it shows something."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from rasterio.enums import ColorInterp

from tests.server.scenes.pictures import HEIGHT, WIDTH, WINDOWS, noise, part, write
from vimserve.model.samples import SampleRange, parse_range
from vimserve.model.slide import Window
from vimserve.model.transform import Transform
from vimserve.server.errors import InvalidParameter, UnsupportedImage
from vimserve.server.images.samples import SURVEYED, SampleType
from vimserve.server.images.source import EncodedImage
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.scene import Colours
from vimserve.server.scenes.view import View

DTYPE = SampleRange()
ALL = Window(0, 0, HEIGHT, WIDTH)

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # when the test writes
)


@dataclass
class Memory:
    """A scene in memory."""

    samples: Any
    colours: Colours = field(default_factory=lambda: Colours((1, 2, 3)))
    nodata: float | None = None
    shown: Any = None
    georeference: None = None
    read_pixels: int = 0

    @property
    def size(self):
        return self.samples.shape[1:]

    @property
    def bands(self):
        return len(self.samples)

    @property
    def type(self):
        return SampleType(self.samples.dtype.kind, 8 * self.samples.dtype.itemsize)

    def read(self, window, bands):
        self.read_pixels += window.height * window.width
        return part(self.samples, window)[[band - 1 for band in bands]]

    def mask(self, window):
        return None if self.shown is None else part(self.shown, window)

    def close(self):
        pass


def shown_by(view, window=ALL):
    """Which pixels the view shows."""
    valid = view.valid(window)
    assert valid is not None
    return valid


def picture(scene, bands=None, wanted=DTYPE, nodata=None):
    rgb = View(scene, bands, wanted, nodata).rgb(ALL)
    assert rgb is not None
    return rgb


@pytest.mark.parametrize(
    ("dtype", "bands", "wanted"),
    [
        ("uint8", None, "dtype"), ("uint8", (3, 1, 2), "dtype"), ("uint8", (2,), "5,10"),
        ("uint16", None, "dtype"), ("uint16", (3, 2, 1), "1000,50000"),
        ("int16", None, "p2,p98"), ("float32", None, "dtype"), ("float32", (3,), "p0,p50"),
    ],
)  # fmt: skip
def test_windows_are_parts_of_the_upload(tmp_path, dtype, bands, wanted):
    """One range for all windows: that of the whole picture, as the server chooses it."""
    path = write(tmp_path / "a.tif", noise(3, dtype), photometric="rgb")
    upload = EncodedImage(path.read_bytes()).open(10**6)
    whole = np.asarray(upload.picture(Transform(range=parse_range(wanted), bands=bands)))
    view = View(open_scene(path), bands, parse_range(wanted), None)
    assert view.size == (HEIGHT, WIDTH)
    assert view.sample_range == upload.sample_range
    for window in WINDOWS:
        assert view.valid(window) is None or shown_by(view, window).all()
        np.testing.assert_array_equal(
            view.rgb(window), part(whole.transpose(2, 0, 1), window).transpose(1, 2, 0)
        )


RGBA = [getattr(ColorInterp, name) for name in ("red", "green", "blue", "alpha")]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("alpha", ["UNSPECIFIED", "NON-PREMULTIPLIED", "PREMULTIPLIED"])
def test_transparency_is_laid_on_white(tmp_path, dtype, alpha):
    samples = noise(4, dtype)
    samples[3, :90] = 0
    if alpha == "PREMULTIPLIED":
        samples = np.minimum(samples, samples[3:])
    path = write(tmp_path / "a.tif", samples, photometric="rgb", ALPHA=alpha)
    whole = np.asarray(EncodedImage(path.read_bytes()).open(10**6).picture(Transform()))
    view = View(open_scene(path), None, DTYPE, None)
    np.testing.assert_array_equal(view.rgb(ALL), whole)
    if alpha == "UNSPECIFIED":
        assert view.valid(ALL) is None
    else:
        np.testing.assert_array_equal(view.valid(ALL), samples[3] > 0)
        assert view.rgb(Window(0, 0, 90, WIDTH)) is None


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_white_that_is_zero(tmp_path, bits):
    path = tmp_path / "a.tif"
    grey = noise(1)[0] >> (8 - bits)
    if bits == 1:
        tifffile.imwrite(path, grey.astype(bool), photometric="miniswhite")
    else:
        tifffile.imwrite(path, grey, photometric="miniswhite", bitspersample=bits)
    rgb = picture(open_scene(path))
    whole = np.asarray(EncodedImage(path.read_bytes()).open(10**6).picture(Transform()))
    np.testing.assert_array_equal(rgb, whole)
    assert whole[0, 0, 0] == 255 - int(grey[0, 0]) * (255 // (2**bits - 1))


def test_a_palette(tmp_path):
    rng = np.random.default_rng(0)
    indices = noise(1)
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putdata(indices.reshape(-1).tolist())
    image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "a.tif")
    scene = open_scene(tmp_path / "a.tif")
    view = View(scene, None, parse_range("10,20"), 7)
    expected = np.asarray(image.convert("RGB")).copy()
    expected[indices[0] == 7] = 0
    np.testing.assert_array_equal(view.rgb(ALL), expected)
    np.testing.assert_array_equal(view.valid(ALL), indices[0] != 7)


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 0), ("uint16", 65535), ("int16", -9999), ("float32", -3.4028234663852886e38),
     ("float32", 0.1), ("float64", math.nan)],
)  # fmt: skip
def test_nodata_is_nothing(tmp_path, dtype, nodata, override):
    """Where all bands that are looked at have it; a single one may be as it happens."""
    samples = noise(4, dtype)
    samples[1:, :90, :100] = nodata
    samples[1, 120, 120] = nodata
    declared = None if override else nodata
    path = write(tmp_path / "a.tif", samples, nodata=declared, photometric="minisblack")
    wanted = parse_range("p2,p98")
    view = View(open_scene(path), (4, 3, 2), wanted, nodata if override else None)
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[:90, :100] = False
    np.testing.assert_array_equal(view.valid(ALL), valid)
    assert view.rgb(Window(0, 0, 90, 100)) is None
    rgb = view.rgb(ALL)
    assert rgb is not None
    assert (rgb[~valid] == 0).all()
    values = samples[1:][:, valid]
    finite = values[np.isfinite(values)]
    expected = (0, 255) if dtype == "uint8" else np.percentile(finite, [2, 98])
    np.testing.assert_allclose(view.sample_range, expected)
    # The first band has it nowhere.
    assert View(open_scene(path), (1,), wanted, None).rgb(Window(0, 0, 90, 100)) is not None


@pytest.mark.parametrize("nodata", [-9999, 300, math.nan, 0.5])
def test_nodata_that_the_samples_cannot_be(nodata):
    assert shown_by(View(Memory(noise(3)), None, DTYPE, nodata)).all()


def test_what_is_not_a_number_is_nothing_where_all_bands_are_not():
    samples = noise(3, "float32")
    samples[:, :10] = math.nan
    samples[0, 20] = math.nan
    view = View(Memory(samples), None, DTYPE, None)
    assert not shown_by(view)[:10].any()
    assert shown_by(view)[10:].all()
    assert view.rgb(Window(0, 0, 10, 20)) is None
    assert (picture(Memory(samples))[20, :, 0] == 0).all()


def test_what_the_mask_leaves_out_is_nothing():
    samples, shown = noise(3), noise(1)[0] > 100
    shown[:20] = False
    scene = Memory(samples, nodata=5, shown=shown)
    view = View(scene, None, DTYPE, None)
    np.testing.assert_array_equal(view.valid(ALL), shown & (samples != 5).any(axis=0))
    assert view.rgb(Window(0, 0, 20, 20)) is None
    assert (picture(scene)[~shown] == 0).all()
    without = View(Memory(samples, shown=shown), None, DTYPE, None)
    np.testing.assert_array_equal(without.valid(ALL), shown)


def test_a_scene_without_anything():
    """No percentiles, but no error either: no window will be asked about."""
    view = View(
        Memory(np.zeros((3, HEIGHT, WIDTH), np.uint16), nodata=0), None, parse_range("p2,p98"), None
    )
    assert view.rgb(ALL) is None


@pytest.mark.parametrize("shape", [(1100, 5000), (3, 2**21), (20_000, 70)])
def test_a_large_scene_is_surveyed_in_parts(shape):
    rng = np.random.default_rng(0)
    samples = rng.normal(1000, 100, (1, *shape)).astype(np.int16)
    scene = Memory(samples, Colours((1,)))
    view = View(scene, None, parse_range("p10,p90"), None)
    assert 3000 <= scene.read_pixels <= SURVEYED
    np.testing.assert_allclose(view.sample_range, [872, 1128], atol=12)
    assert View(scene, None, parse_range("0,10"), None).sample_range == (0, 10)


def test_the_survey_sees_all_of_the_scene():
    ramp = np.arange(2000, dtype=np.uint16)
    for shape in ((1, 2000, 1), (1, 1, 2000)):
        samples = np.broadcast_to(ramp.reshape(shape), (1, 2000, 2000))
        view = View(Memory(samples, Colours((1,))), None, parse_range("p0,p100"), None)
        assert view.sample_range == (0, 1999)


def test_a_fourth_band_that_was_taken_for_opacity():
    samples = noise(4)
    scene = Memory(samples, Colours((1, 2, 3), alpha=4))
    np.testing.assert_array_equal(picture(scene, (4, 1, 2)), samples[[3, 0, 1]].transpose(1, 2, 0))
    assert View(scene, (4, 1, 2), DTYPE, None).valid(ALL) is None


def test_opaque_pixels_without_data_are_black():
    samples = noise(4)
    samples[3] = 255
    samples[:3, :2] = 7
    shown = picture(Memory(samples, Colours((1, 2, 3), alpha=4), nodata=7), None)
    assert not shown[:2].any()
    np.testing.assert_array_equal(shown[2:], samples[:3, 2:].transpose(1, 2, 0))


def test_bands_that_are_not_there():
    scene = Memory(noise(4))
    with pytest.raises(InvalidParameter, match="asks for band 5 of an image that has 4"):
        View(scene, (5, 1, 2), DTYPE, None)


def test_bands_that_nothing_is_known_of():
    scene = Memory(noise(6), Colours(None))
    with pytest.raises(UnsupportedImage, match=r"the scene has 6 bands .* choose --bands") as error:
        View(scene, None, DTYPE, None)
    assert error.value.value == 6
    assert picture(scene, (6, 5, 1)).shape == (HEIGHT, WIDTH, 3)


def test_floating_point_needs_a_range():
    scene = Memory(noise(3, "float32") * 3000)
    with pytest.raises(UnsupportedImage, match="nothing says what is black and what is white"):
        View(scene, None, DTYPE, None)
    assert View(scene, None, parse_range("0,3000"), None).sample_range == (0, 3000)
