"""A scene: a picture of any size in a file, of which parts are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.images.samples import Bytes, SampleType
from vimserve.server.images.source import Size

Samples = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

# Decoded pixels that a reader keeps, because the next windows need them too; if the file is stored
# in whole rows, at least two rows of windows.
CACHE_BYTES = 2**26


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies.

    Attributes:
        transform: (a, b, c, d, e, f), by which the corner of the pixel in column x and row y lies
            at (a·x + b·y + c, d·x + e·y + f).
        crs: the coordinate reference system as WKT; None if the file does not say.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str | None


@dataclass(frozen=True, eq=False)
class Colours:
    """What a scene's bands, counted from 1, show.

    Attributes:
        shown: the band that is grey, or those that are red, green and blue; None if the file does
            not say.
        alpha: the band of their opacity; None if there is none.
        premultiplied: whether the opacity is in the colours already.
        palette: uint8 ``[entries, 3]``, the colours of the values of the band that is shown.
        inverted: whether the lowest value is white.
    """

    shown: Sequence[int] | None
    alpha: int | None = None
    premultiplied: bool = False
    palette: Bytes | None = None
    inverted: bool = False


class Scene(Protocol):
    """An open file.

    Attributes:
        size: (height, width) in pixels.
        bands: how many there are.
        type: of the samples.
        colours: what its bands show.
        nodata: the sample value of pixels that show nothing; None if there is none.
        georeference: None if the file has none.
    """

    @property
    def size(self) -> Size: ...  # noqa: D102

    @property
    def bands(self) -> int: ...  # noqa: D102

    @property
    def type(self) -> SampleType: ...  # noqa: D102

    @property
    def colours(self) -> Colours: ...  # noqa: D102

    @property
    def nodata(self) -> float | None: ...  # noqa: D102

    @property
    def georeference(self) -> Georeference | None: ...  # noqa: D102

    def read(self, window: Window, bands: Sequence[int]) -> Samples:
        """A part of the scene; may be called from several threads.

        Args:
            window: inside the scene.
            bands: counted from 1.

        Returns:
            ``[len(bands), window.height, window.width]``.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        ...

    def mask(self, window: Window) -> Mask | None:
        """Which pixels the file's mask shows; None if it has no mask.

        Args:
            window: inside the scene.

        Returns:
            ``[window.height, window.width]``.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Shown(Protocol):
    """What is known of a scene whose pixels were looked at.

    Attributes:
        size: (height, width) in pixels.
        georeference: None if the scene has none.
    """

    @property
    def size(self) -> Size: ...  # noqa: D102

    @property
    def georeference(self) -> Georeference | None: ...  # noqa: D102

    def valid(self, window: Window) -> Mask | None:
        """Which pixels of a part of the scene show something.

        Args:
            window: inside the scene.

        Returns:
            ``[window.height, window.width]``; None if all do.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        ...
