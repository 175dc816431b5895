"""TIFF and BigTIFF: the first picture of a file, in any of the layouts of ``layout.py``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image
from torch import Tensor

from vimserve.model.resize import between_pixels
from vimserve.model.transform import Transform
from vimserve.server.images.cost import Cost, picture_bytes, working_bytes
from vimserve.server.images.samples import SURVEYED, Array, choose_scale, grid_step
from vimserve.server.images.tiff.cells import BLOCK, blocks
from vimserve.server.images.tiff.codecs import LZMA_BYTES
from vimserve.server.images.tiff.colours import ToRGB, chosen_samples, sample_type
from vimserve.server.images.tiff.layout import Layout, read_layout
from vimserve.server.images.tiff.numbers import LZMA
from vimserve.server.images.tiff.raster import Raster, read_raster
from vimserve.server.images.upright import sideways, turned, upright

# Of a block that is scaled, and of the samples of which percentiles are taken.
WORKING_BYTES = 32
# What takes at most some 50 ms on a slow core.
QUICK_BYTES, QUICK_SEGMENTS = 2**22, 256


@dataclass
class TiffImage:
    """A TIFF whose first directory was read; it holds no pixels. See ``source.OpenImage``."""

    layout: Layout
    _data: bytes = field(repr=False)
    sample_range: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        stored = self.layout.height, self.layout.width
        return stored[::-1] if sideways(self.layout.orientation) else stored

    @cached_property
    def raster(self) -> Raster:
        """What a GeoTIFF of the same pixels has."""
        return read_raster(self._data, self.layout)

    def pixels_cost(self, transform: Transform) -> Cost:
        """What ``pixels`` costs."""
        target = transform.output_size(*self.size)
        between = 0 if target == self.size else between_pixels(self.size, target)
        return self.picture_cost() + Cost(4 * between, quick=True)

    def picture_cost(self) -> Cost:
        """What ``picture`` costs."""
        layout = self.layout
        pixels = layout.height * layout.width
        pictures = picture_bytes("RGB", *self.size) * (2 if turned(layout.orientation) else 1)
        dictionary = LZMA_BYTES if layout.compression == LZMA else 0
        samples = min(layout.samples, 4) * pixels
        working = working_bytes(pixels) + WORKING_BYTES * min(BLOCK, samples)
        if layout.type.deep:
            working += WORKING_BYTES * min(3 * SURVEYED, samples)
        quick = layout.decoded_bytes <= QUICK_BYTES and layout.segments <= QUICK_SEGMENTS
        return Cost(pictures + 3 * layout.cell_bytes + dictionary + working, quick)

    def pixels(self, transform: Transform) -> Tensor:
        """The transformed image, uint8 ``[3, H, W]``.

        Raises:
            BadRequest: as ``picture``.
        """
        return transform(self.picture(transform))

    def picture(self, transform: Transform) -> Image.Image:
        """The whole image in its own size, RGB and upright, by the transform's range and bands.

        Raises:
            UnsupportedImage: nothing says which samples are the colours, or what is white.
            InvalidParameter: a band that the image does not have.
            CorruptImage: truncated or damaged.
        """
        layout = self.layout
        samples = chosen_samples(layout, transform.bands)
        has_alpha = transform.bands is None and layout.alpha is not None
        colours = samples[:-1] if has_alpha else samples
        kind = sample_type(layout)
        scale = choose_scale(transform.range, kind, self._survey(colours, transform.range.kind))
        self.sample_range = scale.low, scale.high
        to_rgb = ToRGB(layout, scale, has_alpha)
        image = Image.new("RGB", (layout.width, layout.height))
        for row, column, block in blocks(self._data, layout, samples):
            image.paste(Image.fromarray(to_rgb(block)), (column, row))
        return upright(image, layout.orientation)

    def _survey(self, samples: list[int], kind: str) -> Iterator[Array]:
        """The samples by which a range is chosen: a grid of them for percentiles, else all."""
        layout = self.layout
        step = grid_step(layout.height * layout.width) if kind == "percentiles" else 1
        for row, column, block in blocks(self._data, layout, samples):
            yield block[-row % step :: step, -column % step :: step]


def read_tiff(data: bytes, max_pixels: int) -> TiffImage:
    """Read the first directory of a TIFF.

    Raises:
        BadRequest: as ``read_layout``.
    """
    return TiffImage(read_layout(data, max_pixels), data)
