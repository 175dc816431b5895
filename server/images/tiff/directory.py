"""The first directory of a TIFF or BigTIFF: where the pixels are and what they mean.

Only the tags below are looked at, whatever else the directory lists, and a value is a view of the
file's bytes. So neither many entries nor entries that share the same bytes cost anything.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from vimserve.server.errors import CorruptImage

Values = np.ndarray[Any, np.dtype[Any]]

_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
# NumPy's type characters by TIFF's type numbers (TIFF 6.0, section 2; BigTIFF's 13, 16, 17 and 18).
_TYPES = {
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "2i4",
    11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip


class Tag(IntEnum):
    """The tags that are read (TIFF 6.0, section 8 and its supplements)."""

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


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF or a BigTIFF."""
    order = _ORDERS.get(data[:2])
    return order is not None and _number(data[2:4], order) in (_CLASSIC, _BIG)


def read_directory(data: bytes) -> tuple[Mapping[Tag, Values], str]:
    """The tags of the first directory, and the byte order of samples, ``<`` or ``>``.

    Raises:
        CorruptImage: the directory is not within the file.
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
    entries = _view(data, start, entry, count, "directory")
    tags: dict[Tag, Values] = {}
    for tag in Tag:
        found = np.flatnonzero(entries["tag"] == tag)
        if found.size:
            i = int(found[0])
            kind = _TYPES.get(int(entries["type"][i]))
            if kind is None:
                raise damaged(data, f"the tag {tag.name} has no type")
            # A rational is two numbers.
            dtype = np.dtype(order + kind if kind[0].isalpha() else f"(2,){order}{kind[1:]}")
            values = int(entries["count"][i])
            at = start + i * entry.itemsize + 4 + size
            if values * dtype.itemsize > size:
                at = int(_view(data, at, word, 1, tag.name)[0])
            tags[tag] = _view(data, at, dtype, values, f"tag {tag.name}")
    return tags, order


def damaged(data: bytes, what: str) -> CorruptImage:
    """The error for a file that contradicts itself or is not all there."""
    return CorruptImage(
        f"the TIFF is truncated or damaged ({len(data)} bytes received): {what}",
        limit="a complete TIFF",
        value=f"{len(data)} bytes",
    )


def _view(data: bytes, offset: int, dtype: Any, count: int, what: str) -> Values:
    """``count`` values at ``offset``, without a copy."""
    dtype = np.dtype(dtype)
    if count * dtype.itemsize > len(data) - offset:
        raise damaged(data, f"its {what} lies outside of the file")
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, count, offset)


def _number(two_bytes: bytes, order: str) -> int:
    return int.from_bytes(two_bytes, "little" if order == "<" else "big")
