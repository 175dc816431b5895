"""TIFFs without a georeference, by the decoders for uploads; nothing else has to be installed."""

import dataclasses
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.errors import ImageTooLarge, UnsupportedImage
from vimserve.server.images.samples import Array
from vimserve.server.images.tiff.cells import cell_at
from vimserve.server.images.tiff.colours import palette_of
from vimserve.server.images.tiff.directory import Tag
from vimserve.server.images.tiff.layout import ASSOCIATED, Layout, read_layout
from vimserve.server.images.tiff.numbers import (
    COLOURS,
    JPEG,
    NONE,
    PALETTE,
    SEPARATED,
    WHITE_IS_ZERO,
    YCBCR,
)
from vimserve.server.images.tiff.raster import read_raster
from vimserve.server.scenes.readers.files import check_upright, mapped
from vimserve.server.scenes.scene import CACHE_BYTES, Colours, Mask, Samples

# Sides of a scene, and its strips or tiles, are bounded by what TIFF can say.
MOST_PIXELS, MOST_SEGMENTS = 2**62, 2**31
# A strip or tile is decoded as a whole.
MOST_CELL_BYTES = 2**28
# One strip for the whole scene, if it is not compressed, is read as strips of about so many.
STRIP_BYTES = 2**18


class PlainTiffScene:
    """See ``scene.Scene``.

    Args:
        path: the file.

    Raises:
        UnsupportedImage: it has a georeference, is stored turned, or in a layout that is not read.
        ImageTooLarge: its strips or tiles are too large to be decoded.
        CorruptImage: truncated or damaged.
    """

    georeference = None

    def __init__(self, path: Path) -> None:
        data = mapped(path)
        layout = read_layout(data, MOST_PIXELS, MOST_SEGMENTS)
        check_upright(path, layout.orientation)
        raster = read_raster(data, layout)
        if raster.georeference:
            raise UnsupportedImage(
                f"{path.name} has a georeference; reading it needs the extra geo: "
                "pip install 'vimserve[geo]'"
            )
        self._layout = _split(layout)
        _check_cells(self._layout, path)
        self._file = _Bytes(path)
        self._cells: OrderedDict[tuple[int, int, int], Array] = OrderedDict()
        self._lock = threading.Lock()
        self.size = layout.height, layout.width
        self.bands = layout.samples
        self.type = layout.type
        self.colours = _colours(layout)
        self.nodata = raster.nodata

    def read(self, window: Window, bands: Sequence[int]) -> Samples:
        """See ``scene.Scene``."""
        layout = self._layout
        height, width = layout.cell
        rows = range(window.top // height, -(-(window.top + window.height) // height))
        columns = range(window.left // width, -(-(window.left + window.width) // width))
        samples = np.empty((len(bands), window.height, window.width), layout.type.dtype)
        # Strips are as wide as the scene: what the next windows need are all that this one needs.
        keep = max(CACHE_BYTES // layout.cell_bytes, 1)
        if layout.grid[1] == 1:
            keep = max(keep, 2 * len(rows) * (len(bands) if layout.planar else 1))
        for row in rows:
            for column in columns:
                for i, band in enumerate(bands):
                    plane, sample = (band - 1, 0) if layout.planar else (0, band - 1)
                    cell = self._cell(row, column, plane, keep)
                    _paste(samples[i], window, cell[..., sample], row * height, column * width)
        return samples

    def mask(self, window: Window) -> Mask | None:  # noqa: ARG002
        """See ``scene.Scene``: there is none."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cell(self, row: int, column: int, plane: int, keep: int) -> Array:
        place = row, column, plane
        with self._lock:
            cell = self._cells.get(place)
            if cell is not None:
                self._cells.move_to_end(place)
                return cell
        cell = cell_at(self._file, self._layout, *place)
        with self._lock:
            self._cells[place] = cell
            while len(self._cells) > keep:
                self._cells.popitem(last=False)
        return cell


class _Bytes:
    """A file's bytes, read when they are asked for; pages of a mapped file stay in memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._num_bytes = path.stat().st_size

    def __len__(self) -> int:
        return self._num_bytes

    def __getitem__(self, part: slice) -> bytes:
        return os.pread(self._file.fileno(), part.stop - part.start, part.start)

    def close(self) -> None:
        self._file.close()


def _split(layout: Layout) -> Layout:
    """The layout, in smaller strips if there is a large one that is not compressed."""
    row = layout.width * layout.in_cell * layout.type.bits // 8
    tiled = Tag.TILE_WIDTH in layout.tags
    large = layout.grid == (1, 1) and not tiled and layout.cell_bytes > CACHE_BYTES
    whole = layout.type.bits % 8 == 0 and layout.subsampling == (1, 1)
    if not large or not whole or layout.compression != NONE:
        return layout
    rows = max(STRIP_BYTES // row, 1)
    tops = np.arange(0, layout.height, rows)
    offsets = layout.offsets.astype(np.int64)[:, None] + tops * row
    counts = np.broadcast_to(np.minimum(rows, layout.height - tops) * row, offsets.shape)
    return dataclasses.replace(
        layout, cell=(rows, layout.width), offsets=offsets.reshape(-1), counts=counts.reshape(-1)
    )


def _check_cells(layout: Layout, path: Path) -> None:
    if layout.cell_bytes > MOST_CELL_BYTES:
        raise ImageTooLarge(
            f"{path.name} has strips or tiles of {layout.cell_bytes} bytes, more than the "
            f"{MOST_CELL_BYTES} that are decoded at once; save it with smaller tiles",
            limit=MOST_CELL_BYTES,
            value=layout.cell_bytes,
        )


def _colours(layout: Layout) -> Colours:
    colours = COLOURS[layout.photometric]
    beyond = layout.samples - colours - (layout.alpha is not None)
    others = layout.photometric == SEPARATED or (
        layout.photometric == YCBCR and layout.compression != JPEG
    )
    unknown = others or (colours == 1 and beyond)
    return Colours(
        None if unknown else tuple(range(1, colours + 1)),
        None if layout.alpha is None else colours + 1,
        layout.alpha == ASSOCIATED,
        palette_of(layout) if layout.photometric == PALETTE else None,
        layout.photometric == WHITE_IS_ZERO,
    )


def _paste(plane: Samples, window: Window, cell: Array, top: int, left: int) -> None:
    """Copy what a cell, whose corner lies in this row and column, has of a window's plane."""
    down, across = top - window.top, left - window.left
    part = cell[max(-down, 0) : window.height - down, max(-across, 0) : window.width - across]
    down, across = max(down, 0), max(across, 0)
    plane[down : down + part.shape[0], across : across + part.shape[1]] = part
