"""Whole-slide images, by OpenSlide: their largest level."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openslide

from vimserve.model.slide import Window
from vimserve.server.images.samples import SampleType
from vimserve.server.scenes.readers.files import damaged
from vimserve.server.scenes.scene import CACHE_BYTES, Colours, Mask, Samples


class SlideScene:
    """See ``scene.Scene``: red, green, blue, and where the slide was scanned.

    Args:
        path: the file.

    Raises:
        CorruptImage: truncated or damaged.
    """

    bands = 4
    type = SampleType("u", 8)
    colours = Colours((1, 2, 3), alpha=4)
    nodata = None
    georeference = None

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise damaged(self._path, error) from error
        self._slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
        width, height = self._slide.dimensions
        self.size = height, width

    def read(self, window: Window, bands: Sequence[int]) -> Samples:
        """See ``scene.Scene``."""
        corner, extent = (window.left, window.top), (window.width, window.height)
        try:
            image = self._slide.read_region(corner, 0, extent)
        except openslide.OpenSlideError as error:
            raise damaged(self._path, error) from error
        return np.asarray(image).transpose(2, 0, 1)[[band - 1 for band in bands]]

    def mask(self, window: Window) -> Mask | None:  # noqa: ARG002
        """See ``scene.Scene``: the opacity says it."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def is_slide(path: Path) -> bool:
    """Whether OpenSlide knows the file as a scanner's; any TIFF with tiles is none yet."""
    return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")
