"""Masks of scenes as files, read by others."""

import json
import resource
import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.server.scenes.made import described
from vimserve.server.scenes import mask_files
from vimserve.server.scenes.raw_files import ClassFile
from vimserve.server.scenes.scene import Georeference

rasterio = pytest.importorskip("rasterio")
UTM = rasterio.crs.CRS.from_epsg(32633)
PLACE = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), UTM.to_wkt())


@pytest.fixture
def classes():
    """Of 600 × 700 pixels, more than a tile; some show nothing."""
    classes = np.zeros((600, 700), np.uint8)
    classes[100:300, 200:500] = 3
    classes[150:200, 250:300] = 1  # a hole in it
    classes[500:] = 255
    return classes


@pytest.fixture
def write(tmp_path, classes):
    def call(form, georeference=None, num_bytes=None):
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        file = ClassFile(folder / "classes", classes.shape)
        file.write(0, 0, classes)
        output = tmp_path / "mask"
        with room(num_bytes) if num_bytes else nullcontext():
            mask_files.write(file, output, form, described(), georeference)
        file.close()
        return output

    return call


def test_a_geotiff(write, classes):
    with rasterio.open(write("geotiff", PLACE)) as file:
        np.testing.assert_array_equal(file.read(1), classes)
        assert file.crs == UTM
        assert tuple(file.transform)[:6] == PLACE.transform
        assert (file.nodata, file.dtypes, file.block_shapes) == (255, ("uint8",), [(512, 512)])
        assert file.compression.name == "deflate"
        assert file.colormap(1)[3] == (*described().palette[3], 255)
        assert file.colorinterp[0].name == "palette"
        assert file.tags(1)["CLASS_3"] == "class 3"


def test_a_geotiff_that_lies_nowhere(write, classes):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        file = rasterio.open(write("geotiff"))
    with file:
        assert file.crs is None
        np.testing.assert_array_equal(file.read(1), classes)


def test_polygons_in_pixels(write, classes):
    collection = json.loads(write("geojson").read_text())
    shapes = [shapely.geometry.shape(one["geometry"]) for one in collection["features"]]
    properties = [one["properties"] for one in collection["features"]]
    assert sorted((one["index"], one["pixels"]) for one in properties) == [
        (0, 500 * 700 - 200 * 300), (1, 50 * 50), (3, 200 * 300 - 50 * 50)
    ]  # fmt: skip
    for shape, one in zip(shapes, properties, strict=True):
        assert shape.area == one["pixels"]
        assert one["classification"]["name"] == f"class {one['index']}"
        assert one["classification"]["color"] == list(described().palette[one["index"]])
        y, x = np.argwhere(classes == one["index"])[0]
        assert shape.contains(shapely.Point(x + 0.5, y + 0.5))


def test_polygons_on_the_earth(write):
    collection = json.loads(write("geojson", PLACE).read_text())
    (three,) = [one for one in collection["features"] if one["properties"]["index"] == 3]
    shape = shapely.geometry.shape(three["geometry"])
    places = [502_000, 505_000] * 2, [4_999_000] * 2 + [4_997_000] * 2
    corners = rasterio.warp.transform(UTM, "EPSG:4326", *places)
    found = sorted(shape.exterior.coords[:-1])
    np.testing.assert_allclose(found, sorted(zip(*corners, strict=True)), atol=1e-8)
    assert shape.exterior.is_ccw
    assert not shape.interiors[0].is_ccw
    assert three["properties"]["pixels"] == 200 * 300 - 50 * 50


def test_a_png(write, classes):
    with Image.open(write("png")) as picture:
        np.testing.assert_array_equal(np.asarray(picture), classes)
        assert picture.convert("RGB").getpixel((300, 250)) == described().palette[3]
        assert picture.convert("RGB").getpixel((0, 599)) == (0, 0, 0)


def test_nothing_is_there_before_it_is_complete(write, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ClassFile, "read", fail)
    with pytest.raises(OSError, match="No space left"):
        write("geotiff")
    assert [file.name for file in tmp_path.iterdir()] == ["work"]


@contextmanager
def room(num_bytes):
    """No file grows larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("missing", [1, 300, 3000, 100_000])
def test_a_geotiff_that_the_disk_has_no_room_for(write, classes, tmp_path, missing):
    """GDAL does not say what it could not write when it closed the file."""
    noise = np.random.default_rng(0).integers(0, 5, classes.shape, dtype=np.uint8)
    classes[:] = noise
    whole = write("geotiff", PLACE).read_bytes()
    (tmp_path / "mask").unlink()
    with pytest.raises(OSError, match="could not be written; the disk may be full"):
        write("geotiff", PLACE, len(whole) - missing)
    assert [file.name for file in tmp_path.iterdir()] == ["work"]
    assert write("geotiff", PLACE).read_bytes() == whole


@pytest.mark.parametrize("form", ["geotiff", "geojson"])
def test_without_the_extra(form, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ValueError, match=r"needs the extra geo: pip install 'vimserve\[geo\]'$"):
        mask_files.check(form, (10, 10))
    mask_files.check("png", (10, 10))


def test_a_png_has_its_limit():
    with pytest.raises(ValueError, match=r"a PNG of 20000x20000 pixels would have more than"):
        mask_files.check("png", (20_000, 20_000))
