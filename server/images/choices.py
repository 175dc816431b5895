"""A picture that Pillow reads, by the range and bands that a client or a model chose."""

from dataclasses import dataclass
from typing import ClassVar

import imagecodecs
import numpy as np
from PIL import Image
from torch import Tensor

from vimserve.model.samples import SampleRange
from vimserve.model.transform import Transform
from vimserve.server.errors import CorruptImage
from vimserve.server.images.bands import check_bands
from vimserve.server.images.cost import QUICK_PIXELS, Cost
from vimserve.server.images.decode import Header
from vimserve.server.images.samples import Array, Bytes, Scale, choose_scale, grid_step
from vimserve.server.images.samples import SampleType as Type
from vimserve.server.images.upright import upright

_DEPTH_AT = 24
_DEEP, _SHALLOW = Type("u", 16), Type("u", 8)
# Rows are converted in blocks of about so many samples.
BLOCK = 2**20
# RGBA of 16 bits beside the picture; a block that is scaled, and samples for percentiles.
DEEP_BYTES, BLOCK_BYTES = 8 + 4, 128


@dataclass
class PillowImage:
    """An image whose header Pillow read; see ``source.OpenImage``."""

    _header: Header
    sample_range: tuple[float, float] | None = None
    raster: ClassVar[None] = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        return self._header.size

    @property
    def _type(self) -> Type:
        """Of the samples; what other formats have above 8 bits, their decoders reduce."""
        data = self._header.file.data
        deep = data[1:4] == b"PNG" and data[_DEPTH_AT : _DEPTH_AT + 1] == b"\x10"
        return _DEEP if deep else _SHALLOW

    def pixels_cost(self, transform: Transform) -> Cost:
        """What ``pixels`` costs."""
        cost = self._header.pixels_cost(transform)
        return cost if self._keeps(transform.range) else cost + self._deep_cost

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        cost = self._header.picture_cost()
        return cost + self._deep_cost if self._type.deep else cost

    @property
    def _deep_cost(self) -> Cost:
        height, width = self.size
        pixels = height * width
        num_bytes = DEEP_BYTES * pixels + BLOCK_BYTES * min(BLOCK, 4 * pixels)
        return Cost(num_bytes, pixels <= QUICK_PIXELS)

    def pixels(self, transform: Transform) -> Tensor:
        """The transformed image, uint8 ``[3, H, W]``.

        Raises:
            BadRequest: as ``picture``.
        """
        _check(transform)
        if self._own_range(transform.range):
            return choose_bands(self._header.pixels(transform), transform)
        return choose_bands(transform(self._deep(transform)), transform)

    def picture(self, transform: Transform) -> Image.Image:
        """The whole image in its own size, RGB and upright, by the transform's range and bands.

        Raises:
            BadRequest: as ``Header.decode``.
            InvalidParameter: a band that the image does not have.
        """
        _check(transform)
        own = self._own_range(transform.range)
        image = self._header.picture() if own else self._deep(transform)
        if transform.bands is None:
            return image
        channels = [image.getchannel(band - 1) for band in transform.bands]
        return Image.merge("RGB", channels * (3 // len(channels)))

    def _keeps(self, wanted: SampleRange) -> bool:
        return wanted.kind == "dtype" or not self._type.deep

    def _own_range(self, wanted: SampleRange) -> bool:
        """Whether the samples' whole range is wanted; note it, unless there never was a choice."""
        own = self._keeps(wanted)
        if own and (self._type.deep or wanted.kind != "dtype"):
            self.sample_range = self._type.limits
        return own

    def _deep(self, transform: Transform) -> Image.Image:
        """A PNG of 16 bits, of which Pillow would give 8."""
        file, num_bytes = self._header.file, self._header.num_bytes
        try:
            samples = np.atleast_3d(imagecodecs.png_decode(file.data))
        except (RuntimeError, ValueError) as error:
            raise CorruptImage(
                f"the PNG is truncated or damaged ({num_bytes} bytes received)",
                limit="a complete PNG",
                value=f"{num_bytes} bytes",
            ) from error
        colours = samples.shape[2] - (samples.shape[2] in (2, 4))
        height, width = samples.shape[:2]
        step = grid_step(height * width)
        scale = choose_scale(transform.range, _DEEP, [samples[::step, ::step, :colours]])
        self.sample_range = scale.low, scale.high
        rows = max(BLOCK // width, 1)
        image = Image.new("RGB", (width, height))
        for top in range(0, height, rows):
            part = samples[top : top + rows]
            block = _on_white(part, colours, scale)
            if file.clear is not None:
                block[(part == file.clear).all(axis=2)] = 255
            image.paste(Image.fromarray(block), (0, top))
        return upright(image, self._header.orientation)


def _on_white(samples: Array, colours: int, scale: Scale) -> Bytes:
    """RGB ``[H, W, 3]`` of grey or RGB samples, perhaps with alpha."""
    rgb = scale(np.ascontiguousarray(samples[..., :colours]))
    if colours < samples.shape[2]:
        alpha = (samples[..., colours:] >> 8).astype(np.uint32)
        rgb = ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return rgb if colours == 3 else np.repeat(rgb, 3, axis=2)


def _check(transform: Transform) -> None:
    if transform.bands is not None:
        check_bands(transform.bands, 3)


def choose_bands(pixels: Tensor, transform: Transform) -> Tensor:
    """The bands of ``[3, H, W]`` that the transform names, as red, green and blue."""
    if transform.bands is None:
        return pixels
    order = [band - 1 for band in transform.bands]
    return pixels[order * (3 // len(order))]
