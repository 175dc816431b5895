"""What the windows of a scene saw of its objects, and which of it is one object.

An object at a window's edge is seen by several windows, by some of them not whole. What is cut by a
window's edge is left out if another window shows all of that place, farther from its edges: it saw
more. Of the rest two of different windows are one object if they have one class and agree on what
both windows show: there their boxes, as they are or with cut sides that go on, have an intersection
over union of a half or more. This is how detectors tell one object from two within a picture, too;
but what one window saw as two is never made one.

If a window has seen such an object whole, what is best of such is kept. Otherwise it is larger than
the overlap, and its parts are united.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.images.instance import Box, Instance
from vimserve.server.images.source import Size
from vimserve.server.scenes.grid import Grid

Boxes = np.ndarray[Any, np.dtype[np.float64]]

NEAR = 4.0  # pixels from a window's edge, within which a box is cut by it
ALIKE = 0.5  # least intersection over union of one object


@dataclass(frozen=True)
class Place:
    """Where a window saw an object, and of what class.

    Attributes:
        index: the class.
        box: in the scene.
        reach: the box, whose sides that the window's edge cuts go on without an end.
    """

    index: int
    box: Box
    reach: Box

    @property
    def whole(self) -> bool:
        """Whether no side is cut."""
        return self.box == self.reach


@dataclass(frozen=True)
class Sighting:
    """An object as windows saw it.

    Attributes:
        places: where, by the windows to which others to come may still be neighbours.
        united: all parts together.
        whole: as each window saw it that shows all of it, with that window.
    """

    places: Mapping[Window, Place]
    united: Instance
    whole: Sequence[tuple[Window, Instance]]

    @property
    def object(self) -> Instance:
        """The object in the scene."""
        seen = [one for _, one in self.whole]
        return max(seen, key=lambda one: one.score, default=self.united)

    def join(self, other: "Sighting") -> "Sighting":
        """The two as one."""
        united = _united(self.united, other.united)
        seen = (*self.whole, *other.whole)
        whole = [(window, one) for window, one in seen if _inside(united.box, window)]
        return Sighting({**self.places, **other.places}, united, whole)


class Edges:
    """Which edges of the windows cut objects: not those that are the scene's.

    Args:
        grid: the windows.
        size: (height, width) of the scene.
    """

    def __init__(self, grid: Grid, size: Size) -> None:
        self._size, self._extent = size, grid.extent
        self._tops, self._lefts = (np.array(starts) for starts in (grid.tops, grid.lefts))

    def place(self, window: Window, one: Instance) -> Place:
        """Where and how a window saw an object, whose box is in the scene."""
        left, top, right, bottom = one.box
        height, width = self._size
        cut_right, cut_bottom = window.left + window.width, window.top + window.height
        reach = (
            -math.inf if window.left > 0 and left < window.left + NEAR else left,
            -math.inf if window.top > 0 and top < window.top + NEAR else top,
            math.inf if cut_right < width and right > cut_right - NEAR else right,
            math.inf if cut_bottom < height and bottom > cut_bottom - NEAR else bottom,
        )
        return Place(one.index, one.box, reach)

    def shown_whole(self, box: Box) -> bool:
        """Whether there is a window that shows a box and does not cut it."""
        left, top, right, bottom = box
        return _between(left, right, self._lefts, self._extent[1], self._size[1]) and _between(
            top, bottom, self._tops, self._extent[0], self._size[0]
        )


def alike(window: Window, some: Sequence[Place], other: Window, others: Sequence[Place]) -> Boxes:
    """How well what one window saw agrees with what another saw, where both look.

    Args:
        window: saw ``some``.
        some: at least one.
        other: saw ``others``.
        others: at least one.

    Returns:
        intersection over union ``[some, others]``; 0 for different classes.
    """
    first = np.maximum([window.left, window.top], [other.left, other.top])
    last = np.minimum(
        [window.left + window.width, window.top + window.height],
        [other.left + other.width, other.top + other.height],
    )
    as_seen = _overlaps([p.box for p in some], [p.box for p in others], first, last)
    reaching = _overlaps(
        [p.reach for p in some], [p.reach for p in others], first - NEAR, last + NEAR
    )
    same = np.array([p.index for p in some])[:, None] == [p.index for p in others]
    return same * np.maximum(as_seen, reaching)


def _overlaps(some: Sequence[Box], others: Sequence[Box], first: Boxes, last: Boxes) -> Boxes:
    """Intersection over union of the parts of boxes that are between two corners."""
    low, high = np.tile(first, 2), np.tile(last, 2)
    a, b = (np.array(boxes).clip(low, high) for boxes in (some, others))
    shared = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    intersections = shared.clip(min=0).prod(axis=2)
    unions = _areas(a)[:, None] + _areas(b) - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=intersections > 0)


def _areas(boxes: Boxes) -> Boxes:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _between(low: float, high: float, starts: Boxes, extent: int, end: int) -> bool:
    """Whether a stretch is inside of a window and not near its edges, unless they are the ends."""
    begins = (starts == 0) | (starts + NEAR <= low)
    ends = (starts + extent >= end) | (starts + extent - NEAR >= high)
    return bool((begins & ends).any())


def _inside(box: Box, window: Window) -> bool:
    left, top, right, bottom = box
    return (
        window.left <= left
        and window.top <= top
        and right <= window.left + window.width
        and bottom <= window.top + window.height
    )


def _united(one: Instance, other: Instance) -> Instance:
    lows, highs = zip(one.box[:2], other.box[:2]), zip(one.box[2:], other.box[2:])  # noqa: B905
    (left, top), (right, bottom) = map(min, lows), map(max, highs)
    mask = one.mask or other.mask
    if one.mask and other.mask:
        mask = one.mask.united(other.mask)
    return Instance(one.index, max(one.score, other.score), (left, top, right, bottom), mask)
