"""Files that GDAL reads: windows against what was written, and what the files say of themselves."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.enums import ColorInterp

from tests.server.scenes.pictures import HEIGHT, WIDTH, WINDOWS, noise, part, write
from vimserve.server.errors import CorruptImage, UnsupportedImage
from vimserve.server.images.samples import SampleType
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.readers.raster import RasterScene
from vimserve.server.scenes.scene import CACHE_BYTES, Georeference

TRANSFORM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 32}

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # when the test writes
)


@pytest.mark.parametrize(
    ("bands", "dtype", "profile"),
    [
        (3, "uint8", TILES),
        (3, "uint8", TILES | {"compress": "jpeg", "photometric": "rgb"}),
        (1, "uint8", {"blockysize": 7, "compress": "lzw"}),
        (3, "uint8", {"BIGTIFF": "YES"} | TILES),
        (4, "uint16", {"compress": "deflate", "predictor": 2, "interleave": "band"} | TILES),
        (2, "int16", {"blockysize": HEIGHT, "compress": "deflate"}),
        (5, "float32", {"compress": "zstd", "predictor": 3} | TILES),
        (1, "float64", {}),
        (1, "int32", {}),
        (3, "uint8", {"driver": "COG", "BLOCKSIZE": 128, "OVERVIEW_COUNT": 1}),
        (3, "uint16", {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}),
        (2, "float32", {"driver": "HFA"}),
        (3, "uint8", {"driver": "NITF"}),
    ],
)
def test_windows_are_parts_of_the_whole(tmp_path, bands, dtype, profile):
    samples = noise(bands, dtype)
    path = write(tmp_path / "scene", samples, **profile)
    if profile.get("compress") == "jpeg":
        samples = tifffile.imread(path).transpose(2, 0, 1)
    scene = open_scene(path)
    assert scene.size == (HEIGHT, WIDTH)
    assert scene.bands == bands
    assert scene.type.dtype == np.dtype(dtype)
    assert scene.georeference is None
    chosen = range(bands, 0, -1)
    for window in WINDOWS:
        np.testing.assert_array_equal(scene.read(window, chosen), part(samples[::-1], window))
    scene.close()


def test_where_it_lies(tmp_path):
    path = write(tmp_path / "a.tif", noise(1), crs="EPSG:32633", transform=TRANSFORM)
    place = open_scene(path).georeference
    assert isinstance(place, Georeference)
    assert place.transform == (10, 0, 500_000, 0, -10, 5_000_000)
    assert rasterio.CRS.from_wkt(place.crs) == rasterio.CRS.from_epsg(32633)


def test_where_it_lies_in_an_unknown_system(tmp_path):
    place = open_scene(write(tmp_path / "a.tif", noise(1), transform=TRANSFORM)).georeference
    assert place == Georeference((10, 0, 500_000, 0, -10, 5_000_000), None)


RED, GREEN, BLUE, ALPHA = (getattr(ColorInterp, name) for name in ("red", "green", "blue", "alpha"))
GREY, OTHER = ColorInterp.gray, ColorInterp.undefined


@pytest.mark.parametrize(
    ("colours", "shown", "alpha"),
    [
        ([GREY], (1,), None),
        ([OTHER], (1,), None),
        ([GREY, ALPHA], (1,), 2),
        ([RED, GREEN, BLUE], (1, 2, 3), None),
        ([BLUE, GREEN, RED, OTHER, OTHER], (3, 2, 1), None),
        ([RED, GREEN, BLUE, ALPHA], (1, 2, 3), 4),
        ([GREY, OTHER, OTHER], None, None),
        ([GREY, OTHER, OTHER, ALPHA], None, 4),
    ],
)
def test_which_bands_are_the_colours(tmp_path, colours, shown, alpha):
    path = write(tmp_path / "a.tif", noise(len(colours)), colours=colours, photometric="minisblack")
    described = open_scene(path).colours
    assert (described.shown, described.alpha) == (shown, alpha)
    assert not described.premultiplied
    assert not described.inverted
    assert described.palette is None


def test_opacity_that_is_in_the_colours_already(tmp_path):
    path = write(tmp_path / "a.tif", noise(4), photometric="rgb", ALPHA="PREMULTIPLIED")
    assert open_scene(path).colours.premultiplied


def test_a_palette(tmp_path):
    rng = np.random.default_rng(0)
    table = {value: (*rng.integers(0, 256, 3).tolist(), 255) for value in range(256)}
    palette = open_scene(write(tmp_path / "a.tif", noise(1), table=table)).colours.palette
    assert palette is not None
    assert palette.tolist() == [list(colour[:3]) for colour in table.values()]


def test_zero_that_is_white(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(1)[0], photometric="miniswhite")
    assert open_scene(path).colours.inverted


def test_samples_of_twelve_bits(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, "uint16") >> 4, NBITS=12)
    assert open_scene(path).type == SampleType("u", 12)


def test_a_mask(tmp_path):
    mask = noise(1)[0] > 100
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "a.tif", noise(3), mask=mask, photometric="rgb", **TILES)
    scene = open_scene(path)
    for window in WINDOWS:
        np.testing.assert_array_equal(scene.mask(window), part(mask, window))
    assert open_scene(write(tmp_path / "b.tif", noise(1), nodata=3)).mask(WINDOWS[0]) is None


def test_a_picture_that_is_stored_turned_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(1)[0], extratags=[(274, 3, 1, 6, True)])
    with pytest.raises(UnsupportedImage, match=r"a.tif is stored turned \(orientation 6\)"):
        open_scene(path)


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_samples_are_refused(tmp_path, dtype):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", height=9, width=9, count=1, dtype=dtype):
        pass
    with pytest.raises(UnsupportedImage, match=f"a.tif has {dtype} samples, which are not read"):
        open_scene(path)


def test_several_threads_at_once(tmp_path):
    """A dataset that two of them used at the same time would mix up blocks."""
    samples = noise(3, "uint16", 600, 800)
    scene = open_scene(write(tmp_path / "a.tif", samples, compress="deflate", **TILES))
    windows = [
        type(WINDOWS[0])(top, left, 100, 100)
        for top, left in product(range(0, 501, 50), range(0, 701, 50))
    ]
    with ThreadPoolExecutor(8) as pool:
        for window, read in zip(
            windows, pool.map(lambda window: scene.read(window, [1, 2, 3]), windows), strict=True
        ):
            np.testing.assert_array_equal(read, part(samples, window))


@pytest.mark.parametrize("kept", [10, 0.9])
def test_a_file_that_ends_early(tmp_path, kept):
    path = write(tmp_path / "a.tif", noise(3), compress="deflate", **TILES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if kept < 1 else kept])
    with pytest.raises(
        CorruptImage, match=r"^a.tif is truncated or damaged \(\d+ bytes\): "
    ) as error:
        open_scene(path).read(WINDOWS[-1], [1])
    assert "\n" not in error.value.detail
    assert "previous exception" not in error.value.detail


def test_what_is_kept_of_whole_rows(tmp_path):
    """Two rows of windows, so that no strip is decoded for every window anew."""
    tiled = RasterScene(write(tmp_path / "a.tif", noise(3), **TILES), "GTiff")
    assert tiled._cache_bytes(WINDOWS[0]) == CACHE_BYTES
    wide = write(tmp_path / "b.tif", noise(3, "uint16", 2, 100_000), blockysize=1)
    rows = 2 * (512 + 1) * 100_000 * 3 * 2
    window = type(WINDOWS[0])(0, 0, 512, 512)
    assert RasterScene(wide, "GTiff")._cache_bytes(window) == rows
