"""What tests of scenes have in common."""

import numpy as np

from vimserve.model.palette import make_palette
from vimserve.server.images.source import Size
from vimserve.server.scenes.described import Described

CELL, MULTIPLE = 4, 16


def described(classes=5):
    return Described(
        name="made",
        identity="made",
        labels=tuple(f"class {i}" for i in range(classes)),
        palette=make_palette(classes),
        multiple=MULTIPLE,
        cell=CELL,
        max_resolution=1248,
    )


class Ground:
    """A scene that is known without a file; see ``scenes.scene.Shown``."""

    def __init__(self, size: Size, mask=None, georeference=None) -> None:
        self.size, self.mask, self.georeference = size, mask, georeference

    def valid(self, window):
        if self.mask is None:
            return None
        rows = slice(window.top, window.top + window.height)
        part = self.mask[rows, window.left : window.left + window.width]
        assert part.shape == (window.height, window.width), "the window is not inside the scene"
        return part


def read_classes(partial, size):
    """All that is in the file of classes."""
    return np.fromfile(partial.folder / "classes", np.uint8).reshape(size)
