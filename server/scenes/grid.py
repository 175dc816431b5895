"""The windows of a scene: squares of one size that overlap, in rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vimserve.model.slide import Window
from vimserve.server.images.source import Size


@dataclass(frozen=True)
class Grid:
    """The windows of a scene.

    Attributes:
        tops: first rows of the windows, ascending.
        lefts: first columns of the windows, ascending.
        extent: (height, width) of each window: the side that was asked for, or less where the scene
            ends before.
        stride: pixels from the beginning of a window to that of its neighbour; the last one of a
            row or column is moved inside.
    """

    tops: Sequence[int]
    lefts: Sequence[int]
    extent: Size
    stride: int

    def row(self, number: int) -> Iterator[Window]:
        """The windows of one row, from left to right."""
        height, width = self.extent
        return (Window(self.tops[number], left, height, width) for left in self.lefts)

    def __len__(self) -> int:
        """Windows in all."""
        return len(self.tops) * len(self.lefts)


def grid_of(size: Size, side: int, overlap: int, multiple: int, cell: int = 1) -> Grid:
    """The windows that cover a scene.

    Neighbours overlap by at least ``overlap``; those that the scene's edge would cut are moved
    inside instead, so that all have one size. What they have beyond it is less than a cell.

    Args:
        size: (height, width) of the scene.
        side: of a window, a multiple of ``multiple``.
        overlap: of neighbours in pixels, at most ``side - multiple``.
        multiple: all windows but the last of a row or column begin at multiples of it.
        cell: the last ones begin at multiples of this; it divides ``multiple``.
    """
    stride = (side - overlap) // multiple * multiple
    tops, lefts = (_along(length, side, stride, cell) for length in size)
    return Grid(tops, lefts, (min(side, size[0]), min(side, size[1])), stride)


def _along(length: int, side: int, stride: int, cell: int) -> Sequence[int]:
    last = -(-max(length - side, 0) // cell) * cell
    steps = -(-last // stride)
    return [min(i * stride, last) for i in range(steps + 1)]
