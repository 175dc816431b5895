"""Whole-slide images that OpenSlide reads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from tests.server.scenes.pictures import HEIGHT, WIDTH, WINDOWS, noise, part
from vimserve.model.samples import SampleRange
from vimserve.server.errors import CorruptImage
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.readers.raster import RasterScene
from vimserve.server.scenes.readers.slide import SlideScene
from vimserve.server.scenes.view import View

APERIO = "Aperio Image Library v12\n210x150 [0,0 210x150] (64x64)|AppMag = 20|MPP = 0.5"


def slide(path, picture, description=None, levels=3):
    """Write a pyramid of tiles."""
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            reduced = picture[:: 2**level, :: 2**level]
            file.write(
                reduced, tile=(64, 64), photometric="rgb", metadata=None,
                description=description, subfiletype=int(level > 0),
            )  # fmt: skip
    return path


@pytest.fixture
def picture():
    return np.ascontiguousarray(noise(3).transpose(1, 2, 0))


@pytest.mark.parametrize("description", [None, APERIO])
def test_windows_of_the_largest_level(tmp_path, picture, description):
    scene = SlideScene(slide(tmp_path / "a.svs", picture, description))
    assert scene.size == (HEIGHT, WIDTH)
    for window in WINDOWS:
        whole = part(picture.transpose(2, 0, 1), window)
        np.testing.assert_array_equal(scene.read(window, [1, 2, 3]), whole)
        np.testing.assert_array_equal(scene.read(window, [4, 1])[0], 255)
        np.testing.assert_array_equal(
            View(scene, None, SampleRange(), None).rgb(window), whole.transpose(1, 2, 0)
        )
    scene.close()


def test_a_scanner_is_known_by_the_content(tmp_path, picture):
    """A TIFF with tiles is none: it may have a georeference, or more bands."""
    aperio = slide(tmp_path / "a.tif", picture, APERIO)
    assert isinstance(open_scene(aperio), SlideScene)
    other = slide(tmp_path / "b.tif", picture)
    assert isinstance(open_scene(other), RasterScene)


def test_what_was_not_scanned_shows_nothing(tmp_path, picture):
    """An Aperio tile without bytes is one that the scanner left out."""
    path = slide(tmp_path / "a.svs", picture, APERIO, levels=1)
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        for name in ("TileOffsets", "TileByteCounts"):
            tags[name].overwrite([0, *tags[name].value[1:]])
    scene = open_scene(path)
    view = View(scene, None, SampleRange(), None)
    inside = type(WINDOWS[0])(0, 0, 64, 64)
    assert view.rgb(inside) is None
    across = type(WINDOWS[0])(10, 10, 100, 100)
    valid = np.ones((100, 100), bool)
    valid[:54, :54] = False
    np.testing.assert_array_equal(view.valid(across), valid)
    expected = part(picture.transpose(2, 0, 1), across).transpose(1, 2, 0).copy()
    expected[~valid] = 255
    np.testing.assert_array_equal(view.rgb(across), expected)


def test_several_threads_at_once(tmp_path, picture):
    scene = SlideScene(slide(tmp_path / "a.svs", picture, APERIO))
    whole = picture.transpose(2, 0, 1)
    with ThreadPoolExecutor(4) as pool:
        for window, read in zip(
            WINDOWS * 8,
            pool.map(lambda window: scene.read(window, [1, 2, 3]), WINDOWS * 8),
            strict=True,
        ):
            np.testing.assert_array_equal(read, part(whole, window))


@pytest.mark.parametrize("levels", [1, 3])
def test_a_slide_that_ends_early(tmp_path, picture, levels):
    """OpenSlide looks at the smallest level when it opens a slide."""
    path = slide(tmp_path / "a.svs", picture, APERIO, levels)
    with tifffile.TiffFile(path, mode="r+") as file:
        offsets = file.pages.first.tags["TileOffsets"]
        offsets.overwrite([*offsets.value[:-1], 10**8])
    with pytest.raises(CorruptImage, match=r"^a.svs is truncated or damaged \(\d+ bytes\): "):
        open_scene(path).read(WINDOWS[-1], [1])
