"""What a GeoTIFF of a TIFF's own pixels has of it: its place, and where it shows nothing."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from vimserve.server.errors import CorruptImage
from vimserve.server.images.samples import Array
from vimserve.server.images.tiff.cells import blocks
from vimserve.server.images.tiff.colours import chosen_samples
from vimserve.server.images.tiff.directory import Directory, File, Values, read_directory
from vimserve.server.images.tiff.layout import Layout
from vimserve.server.images.upright import turned

ASCII, SHORT, DOUBLE = 2, 3, 12
# By OGC GeoTIFF 1.1, section 7: the type, a number that divides that of the values, and the most of
# them, where the standard has no limit far more than files have.
_GEO_TAGS = {
    33550: (DOUBLE, 3, 3),  # ModelPixelScale
    33922: (DOUBLE, 6, 6 * 2**14),  # ModelTiepoint
    34264: (DOUBLE, 16, 16),  # ModelTransformation
    34735: (SHORT, 4, 2**16),  # GeoKeyDirectory
    34736: (DOUBLE, 1, 2**16),  # GeoDoubleParams
    34737: (ASCII, 1, 2**16),  # GeoAsciiParams
}
_NODATA, _MOST_DIGITS = 42113, 64  # GDAL's


@dataclass(frozen=True)
class GeoTag:
    """A tag that places pixels on the earth.

    Attributes:
        number: of the tag.
        type: of its values, TIFF's number.
        values: as they are, in any byte order.
    """

    number: int
    type: int
    values: Values


@dataclass(frozen=True)
class Raster:
    """A TIFF as a raster.

    Attributes:
        georeference: its tags; none if the file has none, or damaged ones.
        orientation: how its pixels, to which the georeference refers, are turned to be upright,
            from 1, which is not at all, to 8.
        nodata: the value of samples that show nothing; None if there is none.
    """

    georeference: Sequence[GeoTag]
    orientation: int
    nodata: float | None
    _layout: Layout = field(repr=False)
    _data: File = field(repr=False)

    def shows_nothing(self, bands: tuple[int, ...] | None) -> Array | None:
        """Where all samples have the value ``nodata``, bool ``[H, W]`` as stored.

        Args:
            bands: which are looked at, counted from 1; None if the file says.

        Returns:
            None if there is no such value.

        Raises:
            BadRequest: as ``TiffImage.picture``.
        """
        if self.nodata is None:
            return None
        layout = self._layout
        samples = chosen_samples(layout, bands)
        if bands is None and layout.alpha is not None:
            samples = samples[:-1]
        nothing = np.zeros((layout.height, layout.width), bool)
        for row, column, block in blocks(self._data, layout, samples):
            place = np.s_[row : row + block.shape[0], column : column + block.shape[1]]
            nothing[place] = _equal(block, self.nodata).all(axis=2)
        return nothing


def read_raster(data: File, layout: Layout) -> Raster:
    """What a TIFF's tags say of it as a raster. Nothing in them makes it an error."""
    directory = read_directory(data)
    orientation = layout.orientation if turned(layout.orientation) else 1
    return Raster(_georeference(directory), orientation, _nodata(directory), layout, data)


def _georeference(directory: Directory) -> Sequence[GeoTag]:
    """All tags, or none: half of a georeference would be another one."""
    tags = []
    for number, (kind, divisor, most) in _GEO_TAGS.items():
        found = directory.find(number)
        if found is None:
            continue
        of_type, count = found
        values = _values(directory, number) if of_type == kind and 0 < count <= most else None
        if values is None or count % divisor:
            return ()
        tags.append(GeoTag(number, kind, values))
    return tags


def _nodata(directory: Directory) -> float | None:
    found, values = directory.find(_NODATA), _values(directory, _NODATA)
    if found is None or found[0] != ASCII or values is None:
        return None
    digits = values[:_MOST_DIGITS].tobytes().partition(b"\0")[0]
    for number in (int, float):  # a float has not all integers of 64 bits
        with suppress(ValueError):
            return number(digits)
    return None


def _values(directory: Directory, tag: int) -> Values | None:
    with suppress(CorruptImage):
        return directory.values(tag, str(tag))
    return None


def _equal(samples: Array, value: float) -> Array:
    if samples.dtype.kind == "f":
        if math.isnan(value):
            return np.isnan(samples)
        with np.errstate(over="ignore"):
            return samples == samples.dtype.type(value)
    whole = math.isfinite(value) and value == int(value)
    return samples == int(value) if whole else np.zeros(samples.shape, bool)
