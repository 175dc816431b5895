"""An object that was found in a picture."""

from dataclasses import dataclass

from vimserve.server.images.run_lengths import RunLengths

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Instance:
    """An object in a picture.

    Attributes:
        index: its class.
        score: from 0 to 1.
        box: left, top, right and bottom edge, in pixels of the picture.
        mask: which pixels are its; None where that is not known.
    """

    index: int
    score: float
    box: Box
    mask: RunLengths | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the box."""
        left, top, right, bottom = self.box
        return right - left, bottom - top
