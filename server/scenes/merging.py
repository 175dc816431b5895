"""Makes one of what several windows saw of an object, while the windows come row by row."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.images.instance import Instance
from vimserve.server.images.source import Size
from vimserve.server.scenes.grid import Grid
from vimserve.server.scenes.sightings import ALIKE, NEAR, Edges, Place, Sighting, alike


class Merging:
    """The objects of a scene that windows to come may show, too.

    Args:
        grid: the windows.
        size: (height, width) of the scene.
        begun: the objects that the rows before left ``open``.
    """

    def __init__(self, grid: Grid, size: Size, begun: Iterable[Sighting] = ()) -> None:
        self._grid, self._edges = grid, Edges(grid, size)
        self._open: dict[int, Sighting] = {}  # numbered as they were seen first
        self._at: dict[Window, set[int]] = {}
        self._next = 0
        for sighting in begun:
            self._insert(sighting)

    @property
    def open(self) -> Sequence[Sighting]:
        """What is not complete yet, in the order in which it was seen first."""
        return [self._open[number] for number in sorted(self._open)]

    def add(self, window: Window, instances: Iterable[Instance]) -> None:
        """Take what the next window saw; boxes and masks are in the scene."""
        before = [other for other in self._at if _meet(window, other)]
        new: list[Place] = []
        numbers: list[int] = []
        for one in instances:
            place = self._edges.place(window, one)
            if place.whole or not self._edges.shown_whole(one.box):
                whole = [(window, one)] if place.whole else []
                new.append(place)
                numbers.append(self._insert(Sighting({window: place}, one, whole)))
        if new:
            pairs = [pair for other in before for pair in self._pairs(window, new, numbers, other)]
            self._join(sorted(pairs))

    def complete(self, row: int, column: int) -> Sequence[Instance]:
        """Give out the objects that no window after this one shows, and forget them."""
        tops, lefts = self._grid.tops, self._grid.lefts
        below = tops[row + 1] if row + 1 < len(tops) else math.inf
        right = lefts[column + 1] if column + 1 < len(lefts) else math.inf
        done = []
        for window in [*self._at]:
            # What those farther left have is looked for by no window of this row any more.
            if window.left <= lefts[column] <= window.left + window.width:
                for number in [*self._at[window]]:
                    if not _goes_on(window, self._open[number].places[window], below, right):
                        done += self._leave(window, number)
        return [self._open.pop(number).object for number in sorted(done)]

    def _insert(self, sighting: Sighting) -> int:
        number = self._next
        self._next += 1
        self._put(number, sighting)
        return number

    def _put(self, number: int, sighting: Sighting) -> None:
        self._open[number] = sighting
        for window in sighting.places:
            self._at.setdefault(window, set()).add(number)

    def _pairs(
        self, window: Window, new: Sequence[Place], numbers: Sequence[int], other: Window
    ) -> Iterable[tuple[float, int, int]]:
        """What this window and another one have in common: minus how much, and the numbers."""
        there = sorted(self._at[other])
        agreement = alike(window, new, other, [self._open[i].places[other] for i in there])
        for i, j in np.argwhere(agreement >= ALIKE).tolist():
            yield -float(agreement[i, j]), numbers[i], there[j]

    def _join(self, pairs: Iterable[tuple[float, int, int]]) -> None:
        """Make one of each pair, unless a window saw it as two."""
        now: dict[int, int] = {}

        def find(number: int) -> int:
            while number in now:
                number = now[number]
            return number

        for _, *pair in pairs:
            first, second = sorted(map(find, pair))
            one, other = self._open[first], self._open[second]
            if first != second and one.places.keys().isdisjoint(other.places):
                now[second] = first
                del self._open[second]
                for window in other.places:
                    self._at[window].remove(second)
                self._put(first, one.join(other))

    def _leave(self, window: Window, number: int) -> list[int]:
        """Forget that a window saw an object; its number, if no other one is known to."""
        self._at[window].remove(number)
        if not self._at[window]:
            del self._at[window]
        sighting = self._open[number]
        places = {other: place for other, place in sighting.places.items() if other != window}
        self._open[number] = Sighting(places, sighting.united, sighting.whole)
        return [] if places else [number]


def _goes_on(window: Window, place: Place, below: float, right: float) -> bool:
    """Whether a window of the rows from ``below`` on, or right of ``right``, may show it, too."""
    *_, last_column, last_row = place.reach
    return (window.top + window.height >= below and last_row > below - NEAR) or (
        window.left + window.width >= right and last_column > right - NEAR
    )


def _meet(window: Window, other: Window) -> bool:
    """Whether two windows overlap or touch."""
    return (
        window.left <= other.left + other.width
        and other.left <= window.left + window.width
        and window.top <= other.top + other.height
        and other.top <= window.top + window.height
    )
