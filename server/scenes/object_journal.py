"""The file of the objects that were found in a scene so far.

A line for each object that is complete; and after each row of windows a line with those that the
next row may show, too.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths
from vimserve.server.images.source import Size
from vimserve.server.scenes.sightings import Place, Sighting


class ObjectJournal:
    """The file; what an interrupted run wrote after its last complete row is cut off.

    Args:
        path: of the file, which is made if there is none.
        size: (height, width) of the scene.
        rows: that are complete.

    Attributes:
        open: the objects that the next row may show, too.

    Raises:
        ValueError: if the file lacks the last of these rows.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: Path, size: Size, rows: int) -> None:
        self._path, self._size = path, size
        self.open: Sequence[Sighting] = ()
        path.touch()
        os.truncate(path, self._end_of(rows))
        self._file = path.open("ab")

    def write(self, objects: Iterable[Instance]) -> None:
        """Add objects that are complete."""
        for one in objects:
            self._line(_from_instance(one))

    def end_row(self, row: int, sightings: Iterable[Sighting]) -> None:
        """Add what the next row may show, too; then all is on the disk."""
        self._line({"row": row, "open": [_from_sighting(one) for one in sightings]})
        self._file.flush()
        os.fsync(self._file.fileno())

    def objects(self) -> Iterator[Instance]:
        """Those that were complete at the end of the last row, one by one."""
        with self._path.open("rb") as file:
            for line in file:
                if not line.startswith(b'{"row"'):
                    yield self._instance(json.loads(line))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _line(self, content: Any) -> None:
        self._file.write(json.dumps(content).encode() + b"\n")

    def _end_of(self, rows: int) -> int:
        """Where what follows so many rows begins."""
        if rows == 0:
            return 0
        end = 0
        with self._path.open("rb") as file:
            for line in file:
                end += len(line)
                if line.startswith(b'{"row": %d,' % (rows - 1)):
                    self.open = [self._sighting(one) for one in json.loads(line)["open"]]
                    return end
        raise ValueError(f"{self._path} is damaged; delete {self._path.parent}")

    def _instance(self, content: Any) -> Instance:
        counts = content["mask"]
        mask = None if counts is None else RunLengths(np.array(counts, np.int64), self._size)
        return Instance(content["index"], content["score"], tuple(content["box"]), mask)

    def _sighting(self, content: Any) -> Sighting:
        return Sighting(
            {
                Window(*window): Place(index, tuple(box), tuple(reach))
                for window, (index, box, reach) in content["places"]
            },
            self._instance(content["united"]),
            [(Window(*window), self._instance(one)) for window, one in content["whole"]],
        )


def _from_instance(one: Instance) -> dict[str, Any]:
    mask = None if one.mask is None else one.mask.counts.tolist()
    return {"index": one.index, "score": one.score, "box": one.box, "mask": mask}


def _from_sighting(sighting: Sighting) -> dict[str, Any]:
    return {
        "places": [
            (_corners(window), (place.index, place.box, place.reach))
            for window, place in sighting.places.items()
        ],
        "united": _from_instance(sighting.united),
        "whole": [(_corners(window), _from_instance(one)) for window, one in sighting.whole],
    }


def _corners(window: Window) -> tuple[int, int, int, int]:
    return window.top, window.left, window.height, window.width
