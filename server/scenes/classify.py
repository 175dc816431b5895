"""Joins the class probabilities of a scene's windows: a pixel, or a polygon, for each window."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely

from vimserve.model.slide import Window
from vimserve.server.images.source import Size
from vimserve.server.scenes import geotiff
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.geotiff import needs_geo
from vimserve.server.scenes.grid import Grid
from vimserve.server.scenes.ground import geometries
from vimserve.server.scenes.partial import Partial, publish
from vimserve.server.scenes.scene import Georeference, Shown
from vimserve.server.scenes.streamed import write_list
from vimserve.server.tasks.classify import best, classes_wanted

Probabilities = np.ndarray[Any, np.dtype[np.float32]]

FORMATS: Mapping[str, str] = MappingProxyType(
    {".tif": "geotiff", ".tiff": "geotiff", ".geojson": "geojson", ".json": "geojson"}
)


class ClassifyJoiner:
    """The ``Joiner`` of float32 probabilities ``[classes]``.

    Args:
        model: that made the probabilities.
        shown: the scene.
        grid: its windows.
        partial: keeps the file.
        top_k: how many classes a polygon names, as ``ClassifyQuery.top_k``.

    Raises:
        InvalidParameter: if there are not so many classes.
        OSError: if the file cannot be opened.
    """

    def __init__(
        self, model: Described, shown: Shown, grid: Grid, partial: Partial, top_k: int | None
    ) -> None:
        self._model, self._shown, self._grid, self._partial = model, shown, grid, partial
        self._named = classes_wanted(top_k, len(model.labels))
        self._shape = (len(grid.lefts), len(model.labels))
        self._path = partial.folder / "probabilities"
        self._path.touch()
        os.truncate(self._path, partial.rows * 4 * len(grid.lefts) * len(model.labels))
        self._file = self._path.open("ab")

    def add(self, window: Window, result: Probabilities | None) -> None:  # noqa: ARG002
        """See ``Joiner.add``.

        Raises:
            ValueError: if there are not as many probabilities as classes.
        """
        classes = self._shape[1]
        if result is None:
            result = np.full(classes, np.nan, np.float32)
        if result.shape != (classes,):
            raise ValueError(f"a window has {list(result.shape)} probabilities, not {[classes]}")
        self._file.write(result.astype("<f4").tobytes())

    def end_row(self, number: int) -> None:
        """See ``Joiner.end_row``."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.complete(number + 1)

    def finish(self, output: Path, form: str) -> None:
        """See ``Joiner.finish``.

        Raises:
            ValueError: if a window lies nowhere on the Earth.
        """
        new = self._partial.folder / "result"
        if form == "geotiff":
            self._write_geotiff(new)
        else:
            write_list(new, {"type": "FeatureCollection"}, "features", self._features())
        publish(new, output)
        self._file.close()

    def _rows(self) -> Iterator[Probabilities]:
        """``[columns, classes]`` of each row of windows."""
        with self._path.open("rb") as file:
            for _ in self._grid.tops:
                yield np.fromfile(file, "<f4", np.prod(self._shape)).reshape(self._shape)

    def _write_geotiff(self, path: Path) -> None:
        columns, classes = self._shape

        def describe(file: Any) -> None:
            for band, label in enumerate(self._model.labels, start=1):
                file.set_band_description(band, label)

        geotiff.write(
            path, self._cells(),
            lambda: (
                (Window(number, 0, 1, columns), row.T[:, None])
                for number, row in enumerate(self._rows())
            ),
            describe,
            height=len(self._grid.tops), width=columns, count=classes, dtype="float32",
            nodata=np.nan, interleave="pixel", blockysize=1, predictor=3,
        )  # fmt: skip

    def _cells(self) -> Georeference:
        """Where the pixels lie: one for each window, in the middle of it and as large as a stride.

        The last of a row or column lie where they would if their windows were not moved inside.
        Without a georeference of the scene they are in its pixels.
        """
        known = self._shown.georeference or Georeference((1, 0, 0, 0, 1, 0), None)
        tall, wide = (min(self._grid.stride, side) for side in self._grid.extent)
        y, x = (
            (side - cell) / 2 for side, cell in zip(self._grid.extent, (tall, wide), strict=True)
        )
        a, b, c, d, e, f = known.transform
        moved = (a * wide, b * tall, a * x + b * y + c, d * wide, e * tall, d * x + e * y + f)
        return Georeference(moved, known.crs)

    def _features(self) -> Iterator[dict[str, Any]]:
        shown = (
            (_box(window), one)
            for number, row in enumerate(self._rows())
            for window, one in zip(self._grid.row(number), row, strict=True)
            if not np.isnan(one[0])
        )
        for geometry, probabilities in geometries(self._shown.georeference, shown):
            yield self._feature(geometry, probabilities)

    def _feature(self, geometry: dict[str, Any], probabilities: Probabilities) -> dict[str, Any]:
        """A tile, as QuPath calls it, with its likeliest classes, best first."""
        labels, likeliest = self._model.labels, best(probabilities.astype(np.float64), self._named)
        first = likeliest[0]
        return {
            "type": "Feature",
            "geometry": geometry,
            "properties": {
                "objectType": "tile",
                "classification": {"name": labels[first], "color": self._model.palette[first]},
                "measurements": {labels[i]: float(probabilities[i]) for i in likeliest},
                "index": first,
            },
        }


def check(form: str, _size: Size) -> None:
    """Refuse a format that cannot be written here.

    Raises:
        ValueError: one line.
    """
    if form == "geotiff":
        needs_geo("a GeoTIFF")


def _box(window: Window) -> Any:
    right, bottom = window.left + window.width, window.top + window.height
    return shapely.box(window.left, window.top, right, bottom)
