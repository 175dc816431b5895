"""Class maps as GeoTIFFs, which lie where the upload lies."""

from io import BytesIO
from typing import Any

import numpy as np
import tifffile

from vimserve.model.palette import Palette
from vimserve.server.images.tiff.raster import ASCII, SHORT, Raster
from vimserve.server.images.upright import stored

NODATA = 255
TILE = 256
_ORIENTATION, _GDAL_NODATA = 274, 42113


def mask(
    classes: np.ndarray[Any, np.dtype[np.uint8]],
    palette: Palette,
    raster: Raster | None,
    bands: tuple[int, ...] | None,
) -> bytes:
    """A GeoTIFF whose pixel values are the classes, and whose palette has their colours.

    It has the georeference of the upload. That refers to the upload's pixels as they are stored, so
    the mask is turned as they are, and says so in the same tag. Where the upload shows nothing,
    the mask has ``NODATA``, unless that is a class.

    Args:
        classes: uint8 ``[H, W]``, upright.
        palette: a colour for each class.
        raster: what is known of the upload; None if it is no TIFF.
        bands: of the upload that were looked at; see ``Raster.shows_nothing``.

    Raises:
        BadRequest: if the upload cannot be decoded.
    """
    tags: list[tuple[int, int, int, Any, bool]] = []
    if raster is not None:
        classes = stored(classes, raster.orientation)
        tags += [
            (tag.number, tag.type, len(tag.values), _written(tag.type, tag.values), True)
            for tag in raster.georeference
        ]
        tags.append((_ORIENTATION, SHORT, 1, raster.orientation, True))
        nothing = raster.shows_nothing(bands) if len(palette) <= NODATA else None
        if nothing is not None:
            classes = np.where(nothing, np.uint8(NODATA), classes)
            tags.append((_GDAL_NODATA, ASCII, 0, str(NODATA), True))
    colors = np.zeros((3, 256), np.uint16)
    colors[:, : len(palette)] = np.array(palette, np.uint16).T * 257
    buffer = BytesIO()
    tifffile.imwrite(
        buffer, classes, photometric="palette", colormap=colors, tile=(TILE, TILE),
        compression="deflate", maxworkers=1, metadata=None, software="vimserve", extratags=tags,
    )  # fmt: skip
    return buffer.getvalue()


def _written(kind: int, values: Any) -> Any:
    """A tag's values as tifffile takes them."""
    return values.tobytes() if kind == ASCII else values.tolist()
