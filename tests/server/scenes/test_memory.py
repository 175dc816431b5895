"""Memory does not grow with the scene."""

import ctypes
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.server.scenes.pictures import noise, write
from vimserve.model.samples import parse_range
from vimserve.model.slide import Window
from vimserve.server.scenes.open import open_scene
from vimserve.server.scenes.readers import plain_tiff, raster
from vimserve.server.scenes.readers.plain_tiff import PlainTiffScene
from vimserve.server.scenes.view import View

HEIGHT, WIDTH, BANDS, CACHE_BYTES = 8000, 1500, 3, 2**21

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # when the test writes
)


@pytest.fixture(autouse=True)
def _little_is_kept(monkeypatch):
    """Less than the 36 MB that a scene here has in all."""
    monkeypatch.setattr(raster, "CACHE_BYTES", CACHE_BYTES)
    monkeypatch.setattr(plain_tiff, "CACHE_BYTES", CACHE_BYTES)


def tiles(path):
    return write(path, rows(), tiled=True, compress="deflate", photometric="rgb", ZLEVEL=1)


def strips(path):
    return write(path, rows(), compress="deflate", photometric="rgb", ZLEVEL=1)


def png(path):
    path.write_bytes(imagecodecs.png_encode(pixels(), level=1))
    return path


def jpeg(path):
    path.write_bytes(imagecodecs.jpeg8_encode(pixels()))
    return path


def plain(path):
    tifffile.imwrite(path, pixels(), tile=(256, 256), compression="deflate")
    return path


def one_strip(path):
    tifffile.imwrite(path, pixels(), rowsperstrip=HEIGHT)
    return path


def rows():
    """Samples that are of one value in each row."""
    return np.broadcast_to(noise(BANDS, "uint8", HEIGHT, 1), (BANDS, HEIGHT, WIDTH))


def pixels():
    """The same as ``[height, width, bands]``."""
    return np.ascontiguousarray(rows().transpose(1, 2, 0))


def status(name):
    """Bytes, from what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("made", "opened"),
    [
        (tiles, open_scene), (strips, open_scene), (png, open_scene), (jpeg, open_scene),
        (plain, PlainTiffScene), (one_strip, PlainTiffScene),
    ],
)  # fmt: skip
def test_all_windows_of_a_scene(tmp_path, made, opened):
    scene = opened(made(tmp_path / "scene"))
    # Nothing that is free already is taken; the peak is the present from now on.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    view = View(scene, None, parse_range("p2,p98"), None)
    for top in range(0, HEIGHT - 255, 242):
        for left in range(0, WIDTH - 255, 248):
            assert view.rgb(Window(top, left, 256, 256)) is not None
    scene.close()
    # Some windows, and what is kept: two rows of windows if the file is stored in whole rows.
    assert status("VmHWM") - before < 16e6 < HEIGHT * WIDTH * BANDS / 2
