"""Joins the objects that were found in a scene's windows, and writes those of the scene.

What several windows saw of one object becomes one; see ``sightings``. An object is written to a
file as soon as no window to come shows it, so what is in memory is what the windows at hand and the
next row may show, too.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import shapely

from vimserve.model.slide import Window
from vimserve.server.images import coco, geojson
from vimserve.server.images.instance import Instance
from vimserve.server.images.source import Size
from vimserve.server.scenes.described import Described
from vimserve.server.scenes.grid import Grid
from vimserve.server.scenes.ground import geometries
from vimserve.server.scenes.merging import Merging
from vimserve.server.scenes.object_journal import ObjectJournal
from vimserve.server.scenes.partial import Partial, publish
from vimserve.server.scenes.scene import Shown
from vimserve.server.scenes.streamed import write_list
from vimserve.server.tasks.detect import Detected

FORMATS: Mapping[str, str] = MappingProxyType({".geojson": "geojson", ".json": "coco"})
MOST_COCO_PIXELS = 2**32  # pycocotools counts them with 32 bits


def check(form: str, size: Size) -> None:
    """Refuse a format that has no room for a scene of this size.

    Raises:
        ValueError: one line.
    """
    height, width = size
    if form == "coco" and height * width >= MOST_COCO_PIXELS:
        raise ValueError(
            f"COCO's masks have room for fewer than {MOST_COCO_PIXELS} pixels, not for "
            f"{height}x{width}; write GeoJSON: --format geojson"
        )


class DetectJoiner:
    """The ``Joiner`` of ``Detected``.

    Args:
        model: that found the objects.
        shown: the scene.
        grid: its windows, which do not go beyond the scene.
        partial: keeps the file.
        name: the scene's, for COCO.

    Raises:
        ValueError: if the file is damaged.
        OSError: if it cannot be opened.
    """

    def __init__(
        self, model: Described, shown: Shown, grid: Grid, partial: Partial, name: str
    ) -> None:
        self._model, self._shown, self._partial, self._name = model, shown, partial, name
        self._journal = ObjectJournal(partial.folder / "objects.jsonl", shown.size, partial.rows)
        self._merging = Merging(grid, shown.size, self._journal.open)
        self._row, self._column = partial.rows, 0

    def add(self, window: Window, result: Detected | None) -> None:
        """See ``Joiner.add``."""
        if result is not None:
            found = (self._in_scene(window, one) for one in result.instances)
            self._merging.add(window, found)
        self._journal.write(self._merging.complete(self._row, self._column))
        self._column += 1

    def end_row(self, number: int) -> None:
        """See ``Joiner.end_row``."""
        self._journal.end_row(number, self._merging.open)
        self._partial.complete(number + 1)
        self._row, self._column = number + 1, 0

    def finish(self, output: Path, form: str) -> None:
        """See ``Joiner.finish``.

        Raises:
            ValueError: if an object lies nowhere on the Earth.
        """
        new = self._partial.folder / "result"
        if form == "coco":
            members = coco.image_and_categories(self._name, self._shown.size, self._model.labels)
            objects = enumerate(self._journal.objects(), start=1)
            write_list(new, members, "annotations", (coco.annotation(*one) for one in objects))
        else:
            write_list(new, {"type": "FeatureCollection"}, "features", self._features())
        publish(new, output)
        self._journal.close()

    def _in_scene(self, window: Window, one: Instance) -> Instance:
        """An object of a window, moved."""
        left, top, right, bottom = one.box
        x, y = window.left, window.top
        box = (left + x, top + y, right + x, bottom + y)
        mask = one.mask and one.mask.moved(x, y, self._shown.size)
        return Instance(one.index, one.score, box, mask)

    def _features(self) -> Iterator[dict[str, Any]]:
        shapes = ((_shape(one), one) for one in self._journal.objects())
        for geometry, one in geometries(self._shown.georeference, shapes):
            yield geojson.feature(one, geometry, self._model.labels, self._model.palette)


def _shape(one: Instance) -> Any:
    """The regions of an object's mask, or its box where it has none or an empty one."""
    if one.mask and one.mask.area:
        return shapely.multipolygons(one.mask.polygons(one.mask.outline()))
    return shapely.box(*one.box)
