"""Arrays in files, of which parts are written and read.

They are not mapped into memory, where their pages would count as the process's.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.images.source import Size

Classes = np.ndarray[Any, np.dtype[np.uint8]]
Scores = np.ndarray[Any, np.dtype[np.float32]]

NODATA = 255  # the class of pixels that show nothing


class _RawFile:
    """A file that is made if it is not there.

    Raises:
        OSError: if it cannot be opened; its methods raise it if they cannot read or write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def flush(self) -> None:
        """Wait until all is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, at: int, array: np.ndarray[Any, Any]) -> None:
        rest = np.ascontiguousarray(array).data.cast("B")
        while rest:  # the system may write less than all of it
            written = os.pwrite(self._file, rest, at)
            rest, at = rest[written:], at + written

    def _read(self, at: int, array: np.ndarray[Any, Any]) -> None:
        rest = array.data.cast("B")
        while rest:
            count = os.preadv(self._file, [rest], at)
            if not count:
                raise OSError(f"{self.path} is too short")
            rest, at = rest[count:], at + count


class ClassFile(_RawFile):
    """The class of every pixel of a scene, row by row, a byte each.

    Args:
        path: of the file.
        size: (height, width) of the scene.
    """

    def __init__(self, path: Path, size: Size) -> None:
        super().__init__(path)
        self.size = size

    def write(self, top: int, left: int, classes: Classes) -> None:
        """Write uint8 ``[h, w]`` at a row and a column."""
        for number, row in enumerate(classes):
            self._write(self._at(top + number, left), row)

    def read(self, window: Window) -> Classes:
        """A part of the scene, uint8 ``[window.height, window.width]``."""
        classes = np.empty((window.height, window.width), np.uint8)
        for number, row in enumerate(classes):
            self._read(self._at(window.top + number, window.left), row)
        return classes

    def _at(self, row: int, column: int) -> int:
        return row * self.size[1] + column


class ScoreFile(_RawFile):
    """Scores of columns of cells, float32 ``[columns, rows, classes]``."""

    def write(self, first: int, scores: Scores) -> None:
        """Write columns from this one on."""
        self._write(first * math.prod(scores.shape[1:]) * scores.itemsize, scores)

    def read(self, first: int, shape: tuple[int, int, int]) -> Scores:
        """Columns from this one on."""
        scores = np.empty(shape, np.float32)
        self._read(first * math.prod(shape[1:]) * scores.itemsize, scores)
        return scores
