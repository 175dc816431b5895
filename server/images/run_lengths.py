"""A mask as run lengths, and what can be told and made of them without its pixels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import shapely
from pycocotools import mask as coco_mask

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Objects = np.ndarray[Any, np.dtype[np.object_]]

# Of a number in a compressed mask, but one: so many have more than 32 bits.
_MOST_DIGITS = 6


@dataclass(frozen=True, eq=False)
class RunLengths:
    """Which pixels of a picture belong to something, in COCO's run-length encoding.

    Attributes:
        counts: int32 ``[runs]``, how many pixels down the columns do not belong to it, then how
            many do, and so on; only the first and the last may be 0. They are int64 in a scene.
        size: (height, width) of the picture.
    """

    counts: np.ndarray[Any, np.dtype[np.int32 | np.int64]]
    size: tuple[int, int]

    @classmethod
    def read(cls, compressed: str, size: tuple[int, int]) -> Self:
        """The mask whose ``compressed`` counts these are; pycocotools only makes pixels of them.

        Args:
            compressed: numbers in digits of five bits, the lowest first, a bit for whether another
                one follows; from the fourth on a number is the difference from the last but one.
            size: (height, width) of the picture.

        Raises:
            ValueError: they are not, or not of a picture of this size.
        """
        digits = np.frombuffer(compressed.encode(), np.uint8).astype(np.int64) - ord("0")
        if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
            raise ValueError("the counts of a mask are not what pycocotools writes")
        last = digits & 32 == 0
        begins = np.flatnonzero(np.append(True, last[:-1]))
        places = np.arange(len(digits)) - np.repeat(begins, np.diff(begins, append=len(digits)))
        if places.max() > _MOST_DIGITS:
            raise ValueError("a count of a mask has too many digits")
        counts = np.add.reduceat((digits & 31) << 5 * places, begins)
        counts -= np.where(digits[last] & 16, 32 << 5 * places[last], 0)
        for first in (1, 2):
            counts[first::2] = np.cumsum(counts[first::2])
        if counts.min() < 0 or counts.sum() != size[0] * size[1]:
            raise ValueError(f"the counts of a mask do not add up to {size[0]}x{size[1]} pixels")
        return cls(counts.astype(np.int32), size)

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return int(self.counts[1::2].sum(dtype=np.int64))

    def compressed(self) -> str:
        """The ``counts`` that pycocotools writes."""
        counts = self.counts if self.counts[-1] else self.counts[:-1]
        written = coco_mask.frPyObjects(
            {"size": list(self.size), "counts": counts.tolist()}, *self.size
        )
        return written["counts"].decode()

    def pixels(self) -> tuple[Bools, tuple[int, int]]:
        """The smallest rectangle with all its pixels.

        Returns:
            bool ``[H, W]``, and the (left, top) of the rectangle; ``[0, 0]`` of an empty mask.
        """
        columns, tops, bottoms = self._intervals
        if not len(columns):
            return np.zeros((0, 0), dtype=bool), (0, 0)
        left, top = int(columns[0]), int(tops.min())
        height, width = int(bottoms.max()) - top, int(columns[-1]) - left + 1
        # Down each column, one more where an interval begins and one less behind its end.
        steps = np.zeros((width, height + 1), dtype=np.int8)
        steps[columns - left, tops - top] = 1
        steps[columns - left, bottoms - top] -= 1
        return np.cumsum(steps[:, :-1], axis=1, dtype=np.int8).view(bool).T, (left, top)

    def outline(self) -> Floats:
        """The straight pieces of its boundary, from corner to corner: ``[pieces, 2, (x, y)]``."""
        height, width = self.size
        columns, tops, bottoms = self._intervals
        rows, ends = np.concatenate([tops, bottoms]), np.repeat([0, 1], len(tops))
        columns = np.concatenate([columns, columns])
        # What begins or ends at the same height on both sides of a line between two columns is no
        # corner; the corners that are left on a line are by turns the upper and the lower ones.
        sides = np.concatenate([columns, columns + 1])
        corners, times = np.unique(
            (sides * (height + 1) + np.tile(rows, 2)) * 2 + np.tile(ends, 2), return_counts=True
        )
        lines, heights = np.divmod(corners[times == 1] // 2, height + 1)
        down = np.stack([lines, heights], axis=1).reshape(-1, 2, 2)
        # Across, neighbouring columns whose intervals begin, or end, at the same height.
        edges = np.sort((rows * 2 + ends) * (width + 1) + columns)
        begins = np.diff(edges, prepend=-2) != 1
        first, last = edges[begins], edges[np.roll(begins, -1)]
        level = first // (width + 1) // 2
        starts, stops = first % (width + 1), last % (width + 1) + 1
        across = np.stack([starts, level, stops, level], axis=1).reshape(-1, 2, 2)
        return np.concatenate([across, down]).astype(float)

    def polygons(self, outline: Floats) -> Objects:
        """A polygon, with its holes, for each region of pixels that are connected by their sides.

        Args:
            outline: as ``self.outline()``.
        """
        faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(outline)))
        faces = shapely.orient_polygons(faces, exterior_cw=False)
        inside = np.floor(shapely.get_coordinates(shapely.point_on_surface(faces))).astype(int)
        places = inside[:, 0] * self.size[0] + inside[:, 1]
        return faces[np.searchsorted(self._bounds, places, "right") % 2 == 1]

    def moved(self, left: int, top: int, size: tuple[int, int]) -> "RunLengths":
        """The same pixels in a larger picture.

        Args:
            left: column there of this picture's first.
            top: row there of this picture's first.
            size: (height, width) of the larger picture.
        """
        columns, tops, bottoms = self._intervals
        starts = (columns + left) * size[0] + top + tops
        return _of_runs(starts, starts + bottoms - tops, size)

    def united(self, other: "RunLengths") -> "RunLengths":
        """The pixels of either mask; both are of one picture."""
        pairs = [one._bounds[: len(one._bounds) // 2 * 2].reshape(-1, 2) for one in (self, other)]
        starts, ends = np.concatenate(pairs).T
        order = np.argsort(starts, kind="stable")
        return _of_runs(starts[order], ends[order], self.size)

    @cached_property
    def _bounds(self) -> Ints:
        """Where runs end, down the columns."""
        return np.cumsum(self.counts, dtype=np.int64)

    @cached_property
    def _intervals(self) -> tuple[Ints, Ints, Ints]:
        """Column, first row and the row behind the last of each run of its pixels in a column."""
        height, _ = self.size
        bounds = self._bounds[: len(self._bounds) // 2 * 2].reshape(-1, 2)
        first, last = bounds[:, 0] // height, (bounds[:, 1] - 1) // height
        spanned = last - first + 1
        run = np.repeat(np.arange(len(bounds)), spanned)
        columns = np.arange(len(run)) - np.repeat(np.cumsum(spanned) - spanned, spanned)
        columns += first[run]
        tops = np.maximum(bounds[run, 0] - columns * height, 0)
        return columns, tops, np.minimum(bounds[run, 1] - columns * height, height)


def _of_runs(starts: Ints, ends: Ints, size: tuple[int, int]) -> RunLengths:
    """The mask of these runs down the columns, by their starts; they may overlap."""
    ends = np.maximum.accumulate(ends)
    first = np.append(-1, ends)[:-1] < starts
    bounds = np.stack([starts[first], ends[np.roll(first, -1)]], axis=1).reshape(-1)
    return RunLengths(np.diff(bounds, prepend=0, append=size[0] * size[1]), size)
