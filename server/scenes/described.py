"""What a joiner has to know of the model, wherever it runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from vimserve.model.palette import Palette


@dataclass(frozen=True)
class Described:
    """A model, here or on a server.

    Attributes:
        name: as it was asked for.
        identity: changes with its weights or its preprocessing.
        labels: its classes.
        palette: their colours; see ``model.palette``.
        multiple: sides of its input are multiples of it, in pixels.
        cell: side in pixels of what one of a segmenter's scores is for; 1 of other models.
        max_resolution: longest side of its input, in pixels.
        resolution: the side that it was evaluated at, in pixels; None if it has no such size.
    """

    name: str
    identity: str
    labels: Sequence[str]
    palette: Palette
    multiple: int
    cell: int
    max_resolution: int
    resolution: int | None = None


def cells_along(side: int, multiple: int, cell: int) -> int:
    """Scores along a side of a picture, in pixels, which is rounded to what the model takes."""
    return max(round(side / multiple), 1) * multiple // cell
