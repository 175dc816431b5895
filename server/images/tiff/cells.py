"""Goes through a TIFF's pixels, a strip or tile at a time."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from vimserve.server.images.samples import Array
from vimserve.server.images.tiff.codecs import (
    BadSegment,
    decode_cell,
    decode_subsampled,
)
from vimserve.server.images.tiff.directory import damaged
from vimserve.server.images.tiff.layout import Layout
from vimserve.server.images.tiff.numbers import NONE


class Bytes(Protocol):
    """A file's bytes, in memory or on the disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


# Samples that are worked on at once; an uncompressed strip need not be split to be small.
BLOCK = 2**20


def blocks(data: Bytes, layout: Layout, samples: Sequence[int]) -> Iterator[tuple[int, int, Array]]:
    """The picture in parts: (row, column) of a part's corner, and ``[rows, columns, samples]``.

    Args:
        data: the file.
        layout: its layout.
        samples: which of each pixel's samples, counted from 0. Only their planes are decoded.

    Raises:
        CorruptImage: a strip or tile is damaged.
        UnsupportedImage: a JPEG in it is not read.
    """
    down, across = layout.grid
    for i in range(down):
        for j in range(across):
            row, column = i * layout.cell[0], j * layout.cell[1]
            if layout.planar:
                planes = [cell_at(data, layout, i, j, plane) for plane in samples]
            else:
                planes = [cell_at(data, layout, i, j, 0)[..., samples]]
            height, width = planes[0].shape[:2]
            step = max(BLOCK // max(width * len(samples), 1), 1)
            for top in range(0, height, step):
                part = [plane[top : top + step] for plane in planes]
                yield row + top, column, part[0] if len(part) == 1 else np.concatenate(part, 2)


def cell_at(data: Bytes, layout: Layout, row: int, column: int, plane: int) -> Array:
    """The pixels ``[rows, columns, samples]`` of a strip or tile that are within the picture.

    Args:
        data: the file.
        layout: its layout.
        row: of the strip or tile among them.
        column: of the tile among them.
        plane: the sample that it has, if each has a plane of its own; else 0.

    Raises:
        CorruptImage: it is damaged.
        UnsupportedImage: a JPEG in it is not read.
    """
    down, across = layout.grid
    index = (plane * down + row) * across + column
    height = min(layout.cell[0], layout.height - row * layout.cell[0])
    width = min(layout.cell[1], layout.width - column * layout.cell[1])
    offset, count = int(layout.offsets[index]), int(layout.counts[index])
    if offset == count == 0:  # GDAL leaves out what has no data
        return np.zeros((height, width, layout.in_cell), layout.type.dtype)
    if offset + count > len(data):
        raise damaged(data, f"strip or tile {index} lies outside of the file")
    encoded = data[offset : offset + count]
    decode = decode_cell if layout.subsampling == (1, 1) else decode_subsampled
    try:
        cell = decode(encoded, layout)
    except BadSegment as error:
        raise damaged(data, _described(layout, index)) from error
    if cell.shape[0] < height or cell.shape[1] < width:
        raise damaged(data, _described(layout, index))
    return cell[:height, :width]


def _described(layout: Layout, index: int) -> str:
    how = "" if layout.compression == NONE else f" as {layout.compression_name}"
    return f"strip or tile {index} cannot be decoded{how}"
