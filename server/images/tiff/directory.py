"""The first directory of a TIFF or BigTIFF: where the pixels are and what they mean.

Only the tags that are asked for are looked at, whatever else it lists, and a value is a view of the
file's bytes. So neither many entries nor entries that share the same bytes cost much.
"""

from collections.abc import Sized
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from mmap import mmap
from typing import Any

import numpy as np

from vimserve.server.errors import CorruptImage

Values = np.ndarray[Any, np.dtype[Any]]
File = bytes | mmap

_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
# NumPy's type characters by TIFF's type numbers (TIFF 6.0, section 2; BigTIFF's 13, 16, 17 and 18).
_TYPES = {
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "2i4",
    11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip


class Tag(IntEnum):
    """The tags that say how pixels are stored (TIFF 6.0, section 8 and its supplements)."""

    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_COUNTS = 279
    PLANES = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    IMAGE_DEPTH = 32997


def is_tiff(data: File) -> bool:
    """Whether the bytes begin as a TIFF or a BigTIFF."""
    order = _ORDERS.get(data[:2])
    return order is not None and _number(data[2:4], order) in (_CLASSIC, _BIG)


@dataclass(frozen=True)
class Directory:
    """The entries of the first directory; no value was looked at.

    Attributes:
        order: of the bytes of a number, ``<`` or ``>``.
    """

    order: str
    _data: File = field(repr=False)
    _start: int
    _entries: Values

    def find(self, tag: int) -> tuple[int, int] | None:
        """Type number and count of a tag's values; None if there is no such tag."""
        i = self._index(tag)
        if i is None:
            return None
        return int(self._entries["type"][i]), int(self._entries["count"][i])

    def values(self, tag: int, name: str) -> Values | None:
        """A tag's values, without a copy; None if there is no such tag.

        Raises:
            CorruptImage: they are not within the file, or have no type.
        """
        i = self._index(tag)
        if i is None:
            return None
        kind = _TYPES.get(int(self._entries["type"][i]))
        if kind is None:
            raise damaged(self._data, f"the tag {name} has no type")
        # A rational is two numbers.
        order = self.order
        dtype = np.dtype(order + kind if kind[0].isalpha() else f"(2,){order}{kind[1:]}")
        count = int(self._entries["count"][i])
        word = self._entries.dtype["count"]
        at = self._start + (i + 1) * self._entries.dtype.itemsize - word.itemsize
        if count * dtype.itemsize > word.itemsize:
            at = int(_view(self._data, at, word, 1, name)[0])
        return _view(self._data, at, dtype, count, f"tag {name}")

    @cached_property
    def _numbers(self) -> Values:
        # Dozens are looked for, perhaps among millions, and entries lie far apart.
        return np.ascontiguousarray(self._entries["tag"])

    def _index(self, tag: int) -> int | None:
        found = np.flatnonzero(self._numbers == tag)
        return int(found[0]) if found.size else None


def read_directory(data: File) -> Directory:
    """The first directory.

    Raises:
        CorruptImage: it is not within the file.
    """
    order = _ORDERS[data[:2]]
    big = _number(data[2:4], order) == _BIG
    word = f"{order}u8" if big else f"{order}u4"
    size = np.dtype(word).itemsize
    offset = int(_view(data, 8 if big else 4, word, 1, "header")[0])
    count = int(_view(data, offset, word if big else f"{order}u2", 1, "directory")[0])
    entry = np.dtype(
        [("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", word), ("value", f"V{size}")]
    )
    start = offset + (8 if big else 2)
    return Directory(order, data, start, _view(data, start, entry, count, "directory"))


def damaged(data: Sized, what: str) -> CorruptImage:
    """The error for a file that contradicts itself or is not all there."""
    return CorruptImage(
        f"the TIFF is truncated or damaged ({len(data)} bytes received): {what}",
        limit="a complete TIFF",
        value=f"{len(data)} bytes",
    )


def _view(data: File, offset: int, dtype: Any, count: int, what: str) -> Values:
    """``count`` values at ``offset``, without a copy."""
    dtype = np.dtype(dtype)
    if count * dtype.itemsize > len(data) - offset:
        raise damaged(data, f"its {what} lies outside of the file")
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, count, offset)


def _number(two_bytes: bytes, order: str) -> int:
    return int.from_bytes(two_bytes, "little" if order == "<" else "big")
