"""A scene as the 8-bit pictures that a model takes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vimserve.model.samples import SampleRange
from vimserve.model.slide import Window
from vimserve.server.errors import UnsupportedImage
from vimserve.server.images.bands import check_bands
from vimserve.server.images.samples import SURVEYED, Array, SampleType, Scale, choose_scale
from vimserve.server.images.source import Size
from vimserve.server.scenes.join import RGB
from vimserve.server.scenes.scene import Georeference, Mask, Samples, Scene

# A range is chosen by so many parts along each side of a larger scene.
SURVEYED_PARTS = 16


class View:
    """The chosen bands of a scene, by one range for all of it.

    Args:
        scene: open as long as this is used.
        bands: one or three, counted from 1; by default those that the file says are the colours.
        wanted: the values that become 0 and 255. If the scene has to be looked at to find them,
            its parts are, at most ``SURVEYED`` pixels in all.
        nodata: the sample value of pixels that show nothing, instead of the file's.

    Attributes:
        sample_range: the values that became 0 and 255.

    Raises:
        InvalidParameter: a band that the scene does not have.
        UnsupportedImage: nothing says which bands are the colours, or what is black and white.
        CorruptImage: a part that was looked at cannot be decoded.
    """

    def __init__(
        self, scene: Scene, bands: Sequence[int] | None, wanted: SampleRange, nodata: float | None
    ) -> None:
        self._scene = scene
        self._nodata = scene.nodata if nodata is None else nodata
        self._colours = scene.colours
        self._bands = _chosen(scene, bands)
        self._palette = scene.colours.palette
        # Writers call a fourth band opacity that is none; whoever chooses it knows better.
        self._alpha = None if scene.colours.alpha in self._bands else scene.colours.alpha
        kind = SampleType("u", 8) if self._palette is not None else scene.type
        self._scale = choose_scale(wanted, kind, self._survey())
        self._opacity = Scale(scene.type, 0, scene.type.limits[1])
        self.sample_range = self._scale.low, self._scale.high

    @property
    def size(self) -> Size:
        """(height, width) of the scene."""
        return self._scene.size

    @property
    def georeference(self) -> Georeference | None:
        """Where the scene lies."""
        return self._scene.georeference

    def rgb(self, window: Window) -> RGB | None:
        """A window's picture, uint8 ``[height, width, 3]``; None if it shows nothing.

        Transparency is laid on white, as for uploads; other pixels that show nothing are black.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        samples, alpha = self._read(window)
        valid = self._valid(window, samples, alpha)
        if valid is not None and not valid.any():
            return None
        rgb = self._to_rgb(np.ascontiguousarray(samples.transpose(1, 2, 0)))
        if valid is not None:
            rgb[~valid] = 0
        return rgb if alpha is None else self._on_white(rgb, alpha)

    def valid(self, window: Window) -> Mask | None:
        """Which pixels of a window show something, ``[height, width]``; None: all do.

        Raises:
            BadRequest: if it cannot be decoded.
        """
        if self._nodata is None and self._alpha is None and self._scene.type.kind != "f":
            return self._scene.mask(window)
        return self._valid(window, *self._read(window))

    def _read(self, window: Window) -> tuple[Samples, Samples | None]:
        """The colours ``[bands, height, width]`` and the opacity ``[height, width]``."""
        if self._alpha is None:
            return self._scene.read(window, self._bands), None
        samples = self._scene.read(window, (*self._bands, self._alpha))
        return samples[:-1], samples[-1]

    def _valid(self, window: Window, samples: Samples, alpha: Samples | None) -> Mask | None:
        """Not where all of the bands have nothing, or the opacity or the mask is zero."""
        masks = [self._scene.mask(window)]
        if alpha is not None:
            masks.append(np.not_equal(alpha, 0))
        if samples.dtype.kind == "f":
            masks.append(np.any(~np.isnan(samples), axis=0))
        if self._nodata is not None:
            masks.append(np.any(samples != _as(samples.dtype, self._nodata), axis=0))
        shown = [mask for mask in masks if mask is not None]
        return np.logical_and.reduce(shown) if shown else None

    def _to_rgb(self, samples: Array) -> RGB:
        """uint8 ``[height, width, 3]`` of samples ``[height, width, bands]``."""
        if self._palette is not None:
            return self._palette[samples[..., 0]]
        scaled = self._scale(samples)
        if self._colours.inverted:
            scaled = 255 - scaled
        return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)

    def _on_white(self, rgb: RGB, alpha: Samples) -> RGB:
        opacity = self._opacity(np.ascontiguousarray(alpha))[..., None].astype(np.uint32)
        over = rgb.astype(np.uint32)
        if not self._colours.premultiplied:
            over = (over * opacity + 127) // 255
        return np.minimum(over + 255 - opacity, 255).astype(np.uint8)

    def _survey(self) -> Iterator[Array]:
        """What is shown of the parts that the range is chosen by: all of a small scene."""
        for window in _parts(self.size):
            samples, alpha = self._read(window)
            valid = self._valid(window, samples, alpha)
            yield samples if valid is None else samples[:, valid]


def _as(dtype: np.dtype[Any], nodata: float) -> Array:
    """The number as it is among samples of a type: floats of 32 bits round it."""
    with np.errstate(over="ignore"):
        return np.asarray(nodata, dtype if dtype.kind == "f" else np.float64)


def _chosen(scene: Scene, bands: Sequence[int] | None) -> Sequence[int]:
    if bands is not None:
        check_bands(bands, scene.bands)
        return bands
    if scene.colours.shown is None:
        raise UnsupportedImage(
            f"the scene has {scene.bands} bands of {scene.type}, and nothing says which are red, "
            "green and blue; choose --bands RED,GREEN,BLUE or --bands GREY, counted from 1",
            parameter="bands",
            limit=[1, 3],
            value=scene.bands,
        )
    return scene.colours.shown


def _parts(size: Size) -> Iterator[Window]:
    """All of a small scene, or parts all over a larger one."""
    if math.prod(size) <= SURVEYED:
        yield Window(0, 0, *size)
        return
    side = math.isqrt(SURVEYED) // SURVEYED_PARTS
    height, width = (min(side, length) for length in size)
    tops, lefts = (_spread(length, side) for length in size)
    yield from (Window(top, left, height, width) for top in tops for left in lefts)


def _spread(length: int, side: int) -> list[int]:
    """Where the parts begin along one side."""
    last = max(length - side, 0)
    count = min(-(-length // side), SURVEYED_PARTS)
    return [last * i // max(count - 1, 1) for i in range(count)]
