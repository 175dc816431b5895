"""TIFFs that are read without GDAL."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np
import pytest
import rasterio
import tifffile

from tests.server.images.tiff.writer import tiff
from tests.server.scenes.pictures import HEIGHT, WIDTH, WINDOWS, noise, part, write
from vimserve.model.slide import Window
from vimserve.server.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from vimserve.server.images.tiff import cells
from vimserve.server.scenes.readers import plain_tiff
from vimserve.server.scenes.readers.plain_tiff import PlainTiffScene
from vimserve.server.scenes.readers.raster import RasterScene

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # when the test writes
)


def file_of(path, samples, **layout):
    """Write samples ``[bands, height, width]``."""
    bits = 8 * samples.dtype.itemsize
    photometric = 2 if len(samples) == 3 else 1
    path.write_bytes(tiff(samples.transpose(1, 2, 0), bits, photometric=photometric, **layout))
    return path


@pytest.fixture
def open_plain():
    """Opens scenes until the test ends."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(PlainTiffScene(path)))


@pytest.fixture
def decoded(monkeypatch):
    """The strips or tiles that were decoded, in their order."""
    places = []

    def count(file, layout, *place):
        places.append(place)
        return cells.cell_at(file, layout, *place)

    monkeypatch.setattr(plain_tiff, "cell_at", count)
    return places


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize(
    "layout",
    [{"tile": (32, 64)}, {"rows": 7}, {"rows": HEIGHT}, {"tile": (32, 64), "big": True}],
    ids=str,
)
@pytest.mark.parametrize("how", [{"compression": 5}, {"planar": True}, {"order": ">"}], ids=str)
def test_windows_are_parts_of_the_whole(open_plain, tmp_path, dtype, layout, how):
    samples = noise(3, dtype)
    path = file_of(tmp_path / "a.tif", samples, **layout, **how)
    whole = tifffile.imread(path)
    np.testing.assert_array_equal(whole if "planar" in how else whole.transpose(2, 0, 1), samples)
    scene = open_plain(path)
    assert scene.size == (HEIGHT, WIDTH)
    for window in WINDOWS:
        np.testing.assert_array_equal(scene.read(window, [3, 1]), part(samples[[2, 0]], window))


@pytest.mark.parametrize("extra", [{}, {"tile": (32, 64)}])
def test_it_says_the_same_as_gdal(open_plain, tmp_path, extra):
    for number, (samples, tags, photometric) in enumerate(
        [
            (noise(1), {}, 1),
            (noise(1), {}, 0),
            (noise(3), {}, 2),
            (noise(4), {338: (3, [1])}, 2),
            (noise(4), {338: (3, [2])}, 2),
            (noise(4), {338: (3, [0])}, 2),
            (noise(2), {338: (3, [2])}, 1),
            (noise(6), {338: (3, [0] * 5)}, 1),
            (
                noise(1),
                {320: (3, [257 * (value % 256) for value in range(768)])},
                3,
            ),
            (noise(1), {42113: (7, list(b"-99.5\\0"))}, 1),
        ]
    ):
        path = tmp_path / f"{number}.tif"
        path.write_bytes(
            tiff(samples.transpose(1, 2, 0), 8, photometric=photometric, tags=tags, **extra)
        )
        ours, theirs = open_plain(path), RasterScene(path, "GTiff")
        assert (ours.size, ours.bands, ours.type) == (theirs.size, theirs.bands, theirs.type)
        assert (ours.nodata, ours.georeference) == (theirs.nodata, None)
        for name in ("shown", "alpha", "premultiplied", "inverted"):
            assert getattr(ours.colours, name) == getattr(theirs.colours, name), (number, name)
        if photometric == 3:
            np.testing.assert_array_equal(ours.colours.palette, theirs.colours.palette)
        assert ours.mask(WINDOWS[0]) is theirs.mask(WINDOWS[0]) is None


def test_inks_are_no_bands_that_are_known(open_plain, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(noise(4).transpose(1, 2, 0), 8, photometric=5))
    assert open_plain(path).colours.shown is None


def test_only_what_a_window_needs_is_decoded(open_plain, tmp_path, decoded):
    path = file_of(tmp_path / "a.tif", noise(3), tile=(32, 64), planar=True)
    scene = open_plain(path)
    scene.read(Window(40, 70, 30, 60), [2])
    assert set(decoded) == {(row, 1, 1) for row in (1, 2)} | {(row, 2, 1) for row in (1, 2)}
    scene.read(Window(40, 70, 30, 60), [2])
    assert len(decoded) == 4


@pytest.mark.parametrize("planar", [False, True])
def test_strips_are_decoded_once_however_little_is_kept(
    open_plain, tmp_path, decoded, monkeypatch, planar
):
    monkeypatch.setattr(plain_tiff, "CACHE_BYTES", 1)
    path = file_of(tmp_path / "a.tif", noise(3), rows=7, compression=8, planar=planar)
    scene = open_plain(path)
    for top in range(0, HEIGHT - 39, 30):
        for left in range(0, WIDTH - 39, 30):
            scene.read(Window(top, left, 40, 40), [1, 2, 3])
    assert len(decoded) == len(set(decoded)) == 19 * (3 if planar else 1)
    # Two rows of windows, each of which touches up to seven strips.
    assert len(scene._cells) <= 2 * 7 * (3 if planar else 1)


def test_tiles_are_forgotten(open_plain, tmp_path, monkeypatch):
    monkeypatch.setattr(plain_tiff, "CACHE_BYTES", 5 * 32 * 64)
    scene = open_plain(file_of(tmp_path / "a.tif", noise(1), tile=(32, 64)))
    for window in WINDOWS:
        scene.read(window, [1])
        assert len(scene._cells) <= 5


@pytest.mark.parametrize("planar", [False, True])
def test_one_strip_that_is_not_compressed_is_read_in_parts(
    open_plain, tmp_path, monkeypatch, planar
):
    samples = noise(3, "uint16")
    path = file_of(tmp_path / "a.tif", samples, rows=HEIGHT, planar=planar)
    monkeypatch.setattr(plain_tiff, "CACHE_BYTES", 5000)
    monkeypatch.setattr(plain_tiff, "STRIP_BYTES", 7 * 6 * WIDTH)
    monkeypatch.setattr(plain_tiff, "MOST_CELL_BYTES", 21 * 6 * WIDTH)
    scene = open_plain(path)
    for window in WINDOWS:
        np.testing.assert_array_equal(scene.read(window, [1, 2, 3]), part(samples, window))


def test_a_strip_that_is_too_large(open_plain, tmp_path, monkeypatch):
    monkeypatch.setattr(plain_tiff, "MOST_CELL_BYTES", HEIGHT * WIDTH - 1)
    path = file_of(tmp_path / "a.tif", noise(1), rows=HEIGHT, compression=8)
    with pytest.raises(ImageTooLarge, match="of 31500 bytes, more than the 31499"):
        open_plain(path)


def test_more_tiles_than_an_upload_may_have(open_plain, tmp_path):
    samples = noise(1, "uint8", 2**16 + 9, 1)
    scene = open_plain(file_of(tmp_path / "a.tif", samples, rows=1))
    window = Window(2**16 - 5, 0, 14, 1)
    np.testing.assert_array_equal(scene.read(window, [1]), part(samples, window))


def test_a_georeference_is_not_lost(open_plain, tmp_path):
    path = write(tmp_path / "a.tif", noise(1), transform=rasterio.Affine(1, 0, 5, 0, -1, 5))
    with pytest.raises(UnsupportedImage, match=r"a.tif has a georeference; .*'vimserve\[geo\]'"):
        open_plain(path)


def test_a_picture_that_is_stored_turned_is_refused(open_plain, tmp_path):
    path = file_of(tmp_path / "a.tif", noise(1), tags={274: (3, [3])})
    with pytest.raises(UnsupportedImage, match=r"a.tif is stored turned \(orientation 3\)"):
        open_plain(path)


@pytest.mark.parametrize("kept", [6, 0.5, 0.99])
def test_a_file_that_ends_early(open_plain, tmp_path, kept):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(1)[0], rowsperstrip=8, compression="deflate", metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if kept < 1 else kept])
    with pytest.raises(CorruptImage, match="truncated or damaged"):
        open_plain(path).read(WINDOWS[-1], [1])


def test_several_threads_at_once(open_plain, tmp_path):
    samples = noise(3, "uint16")
    scene = open_plain(file_of(tmp_path / "a.tif", samples, tile=(32, 64), compression=8))
    with ThreadPoolExecutor(8) as pool:
        windows = WINDOWS * 20
        read = pool.map(lambda window: scene.read(window, [1, 2, 3]), windows)
        for window, found in zip(windows, read, strict=True):
            np.testing.assert_array_equal(found, part(samples, window))
