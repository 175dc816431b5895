"""Which reader opens a file, and what is said where none does."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.server.scenes.pictures import noise, part, write
from vimserve.model.slide import Window
from vimserve.server.errors import EmptyBody, UnsupportedImage
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.readers.plain_tiff import PlainTiffScene
from vimserve.server.scenes.readers.raster import RasterScene

WINDOW = Window(10, 20, 30, 40)

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # when the test writes
)


@pytest.fixture
def without(monkeypatch):
    """Python as if packages were not installed."""

    def remove(*packages):
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return remove


@pytest.mark.parametrize("name", ["a", "a.png", "a:b#c!d?e %41.tif", "zip+file.tif", "-"])
def test_a_file_is_known_by_its_content(tmp_path, name):
    """Whatever its name would mean to GDAL."""
    samples = noise(3)
    write(tmp_path / "a.tif", samples, photometric="rgb").rename(tmp_path / name)
    scene = open_scene(tmp_path / name)
    assert isinstance(scene, RasterScene)
    np.testing.assert_array_equal(scene.read(WINDOW, [1, 2, 3]), part(samples, WINDOW))


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.tif", noise(1))
    assert open_scene(path.relative_to(tmp_path)).size == open_scene(path).size


def test_what_names_other_files_is_not_read(tmp_path):
    """A VRT may name addresses anywhere."""
    path = tmp_path / "a.tif"
    path.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    with pytest.raises(UnsupportedImage, match=r"a.tif is not a scene in one of the formats TIFF"):
        open_scene(path)


def test_no_file_and_no_bytes(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_scene(tmp_path / "a.tif")
    (tmp_path / "a.tif").touch()
    with pytest.raises(EmptyBody, match=r"a.tif has no bytes"):
        open_scene(tmp_path / "a.tif")


def test_a_tiff_without_gdal(tmp_path, without):
    without("rasterio", "openslide")
    samples = noise(3)
    path = tmp_path / "a.tif"
    Image.fromarray(samples.transpose(1, 2, 0)).save(path)
    scene = open_scene(path)
    assert isinstance(scene, PlainTiffScene)
    np.testing.assert_array_equal(scene.read(WINDOW, [1, 2, 3]), part(samples, WINDOW))
    scene.close()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jp2"])
def test_what_needs_gdal(tmp_path, without, name):
    path = tmp_path / name
    Image.fromarray(noise(1)[0]).save(path)
    open_scene(path).close()
    without("rasterio")
    said = rf"^reading {name} needs the extra geo: pip install 'vimserve\[geo\]'$"
    with pytest.raises(UnsupportedImage, match=said):
        open_scene(path)


def test_what_needs_openslide(tmp_path, without):
    path = tmp_path / "a.SVS"
    Image.fromarray(noise(1)[0]).save(path, format="TIFF")
    without("openslide")
    said = r"^reading a.SVS needs the extra slides: pip install 'vimserve\[slides\]'$"
    with pytest.raises(UnsupportedImage, match=said):
        open_scene(path)
