"""TIFF and BigTIFF: the first picture of a file, in any of the layouts of ``layout.py``."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from vimserve.model.transform import Transform
from vimserve.server.images.samples import Array, choose_scale, grid_step
from vimserve.server.images.tiff.cells import BLOCK, blocks
from vimserve.server.images.tiff.codecs import LZMA_BYTES
from vimserve.server.images.tiff.colours import ToRGB, chosen_samples, sample_type
from vimserve.server.images.tiff.layout import Layout, read_layout
from vimserve.server.images.tiff.numbers import LZMA
from vimserve.server.images.upright import sideways, upright

# Of a block that is scaled, and of the samples of which percentiles are taken.
WORKING_BYTES = 96


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

    @property
    def decoded_bytes(self) -> int:
        """Bytes that decoding takes at most, besides the file."""
        layout = self.layout
        pixels = layout.height * layout.width
        pictures = 4 * pixels * (1 if layout.orientation == 1 else 2)
        dictionary = LZMA_BYTES if layout.compression == LZMA else 0
        working = WORKING_BYTES * min(BLOCK, layout.samples * pixels)
        return pictures + 3 * layout.cell_bytes + dictionary + working

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
