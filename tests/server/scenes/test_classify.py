"""The classes of a scene's windows."""

import json

import numpy as np
import pytest

from tests.server.scenes.made import Ground, described
from vimserve.server.errors import InvalidParameter
from vimserve.server.scenes.classify import ClassifyJoiner
from vimserve.server.scenes.grid import grid_of
from vimserve.server.scenes.partial import Partial
from vimserve.server.scenes.scene import Georeference

rasterio = pytest.importorskip("rasterio")
SIZE, SIDE, CLASSES = (100, 150), 40, 5
DEGREES = rasterio.crs.CRS.from_epsg(4326).to_wkt()
PLACE = Georeference((0.01, 0, 10, 0, -0.01, 50), DEGREES)


def probabilities(window):
    """Different ones for each window; None for one."""
    if (window.top, window.left) == (40, 40):
        return None
    scores = np.random.default_rng((window.top, window.left)).random(CLASSES)
    return (scores / scores.sum()).astype(np.float32)


class Run:
    def __init__(self, folder, place=None, overlap=0, size=SIZE, top_k=None, classes=CLASSES):
        self.output = folder / "classes.tif"
        self.grid = grid_of(size, SIDE, overlap, 1)
        self.partial = Partial(self.output, {})
        ground = Ground(size, georeference=place)
        self.joiner = ClassifyJoiner(described(classes), ground, self.grid, self.partial, top_k)

    def rows(self, last=None):
        for number in range(self.partial.rows, len(self.grid.tops))[:last]:
            for window in self.grid.row(number):
                self.joiner.add(window, probabilities(window))
            self.joiner.end_row(number)

    def finish(self, form):
        self.joiner.finish(self.output, form)
        return self.output


def test_geotiff(tmp_path):
    run = Run(tmp_path, PLACE)
    run.rows()
    with rasterio.open(run.finish("geotiff")) as file:
        assert (file.height, file.width, file.count, file.dtypes[0]) == (3, 4, CLASSES, "float32")
        assert file.descriptions == tuple(f"class {i}" for i in range(CLASSES))
        assert file.crs == rasterio.crs.CRS.from_epsg(4326)
        assert tuple(file.transform)[:6] == pytest.approx((0.4, 0, 10, 0, -0.4, 50))
        assert np.isnan(file.nodata)
        pixels = file.read()
    for y in range(3):
        for x, window in enumerate(run.grid.row(y)):
            expected = probabilities(window)
            assert np.array_equal(
                pixels[:, y, x],
                np.full(CLASSES, np.nan) if expected is None else expected,
                equal_nan=True,
            )


@pytest.mark.parametrize(
    ("size", "overlap", "transform"),
    [
        (SIZE, 0, (40, 0, 0, 0, 40, 0)),
        (SIZE, 30, (10, 0, 15, 0, 10, 15)),  # in the middle of the windows
        ((20, 45), 0, (40, 0, 0, 0, 20, 0)),  # as low as the scene
        ((20, 30), 10, (30, 0, 0, 0, 20, 0)),
    ],
)
def test_where_pixels_lie(size, overlap, transform, tmp_path):
    run = Run(tmp_path, None, overlap, size)
    run.rows()
    with rasterio.open(run.finish("geotiff")) as file:
        assert tuple(file.transform)[:6] == transform
        assert file.crs is None
        # The centre of a pixel is that of its window, but of those that were moved inside.
        first = next(run.grid.row(0))
        assert file.xy(0, 0) == (first.width / 2, first.height / 2)


def test_geojson(tmp_path):
    run = Run(tmp_path, PLACE, top_k=2)
    run.rows()
    features = json.loads(run.finish("geojson").read_text())["features"]
    windows = [w for y in range(3) for w in run.grid.row(y) if probabilities(w) is not None]
    assert len(features) == len(windows) == 11
    for window, feature in zip(windows, features, strict=True):
        expected = probabilities(window)
        order = np.argsort(-expected)[:2].tolist()
        properties = feature["properties"]
        assert (properties["objectType"], properties["index"]) == ("tile", order[0])
        assert properties["classification"]["name"] == f"class {order[0]}"
        assert properties["measurements"] == {f"class {i}": float(expected[i]) for i in order}
        assert [*properties["measurements"]] == [f"class {i}" for i in order]
        corners = np.array(feature["geometry"]["coordinates"][0])
        west, south = 10 + window.left / 100, 50 - (window.top + SIDE) / 100
        assert corners.min(axis=0) == pytest.approx((west, south))
        assert np.ptp(corners, axis=0) == pytest.approx((0.4, 0.4))


def test_a_scene_that_shows_nothing(tmp_path):
    run = Run(tmp_path)
    for number in range(3):
        for window in run.grid.row(number):
            run.joiner.add(window, None)
        run.joiner.end_row(number)
    assert json.loads(run.finish("geojson").read_text())["features"] == []


@pytest.mark.parametrize("form", ["geotiff", "geojson"])
def test_an_interrupted_run_gives_the_same_bytes(form, tmp_path):
    whole = Run(tmp_path / "whole", PLACE)
    whole.rows()
    whole.finish(form)
    broken = Run(tmp_path / "broken", PLACE)
    for _ in range(2):
        broken.rows(1)
        # A part of the next row is lost with the process.
        broken.joiner.add(next(broken.grid.row(2)), np.zeros(CLASSES, np.float32))
        broken.joiner._file.close()
        broken = Run(tmp_path / "broken", PLACE)
    broken.rows()
    broken.finish(form)
    assert broken.output.read_bytes() == whole.output.read_bytes()


def test_a_thousand_classes(tmp_path):
    run = Run(tmp_path, classes=1000)
    rng = np.random.default_rng(0)
    rows = rng.random((3, 4, 1000), dtype=np.float32)
    for number, row in enumerate(rows):
        for window, one in zip(run.grid.row(number), row, strict=True):
            run.joiner.add(window, one)
        run.joiner.end_row(number)
    with rasterio.open(run.finish("geotiff")) as file:
        assert (file.read().transpose(1, 2, 0) == rows).all()


def test_what_is_refused(tmp_path):
    with pytest.raises(InvalidParameter, match="top_k must be from 1 to 5"):
        Run(tmp_path, top_k=6)
    run = Run(tmp_path)
    with pytest.raises(ValueError, match=r"a window has \[4\] probabilities, not \[5\]"):
        run.joiner.add(next(run.grid.row(0)), np.zeros(4, np.float32))
    run.joiner._file.close()
