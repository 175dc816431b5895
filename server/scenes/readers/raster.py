"""Scenes that GDAL reads, by rasterio."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as Part

from vimserve.model.slide import Window
from vimserve.server.errors import CorruptImage, UnsupportedImage
from vimserve.server.images.samples import Bytes, SampleType
from vimserve.server.images.tiff.directory import Tag, Values, read_directory
from vimserve.server.images.tiff.layout import ASSOCIATED
from vimserve.server.scenes.readers.files import check_upright, damaged, mapped
from vimserve.server.scenes.scene import CACHE_BYTES, Colours, Georeference, Mask, Samples

_RGB = ColorInterp.red, ColorInterp.green, ColorInterp.blue
_STRUCTURE = "IMAGE_STRUCTURE"


class RasterScene:
    """See ``scene.Scene``.

    A GDAL dataset belongs to one thread at a time; they take turns, so that all of them find the
    blocks that another one decoded.

    Args:
        path: a local file.
        driver: GDAL's, which alone looks at the file.
        options: GDAL's configuration.

    Raises:
        UnsupportedImage: the samples are complex numbers, or of several types; or the picture is
            stored turned.
        CorruptImage: GDAL cannot open it.
    """

    georeference: Georeference | None

    def __init__(self, path: Path, driver: str, **options: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._options = options
        try:
            with rasterio.Env(**options), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                # An absolute path has no scheme, by which GDAL would look elsewhere.
                self._file = rasterio.open(path.absolute(), driver=driver)
                self.georeference = _georeference(self._file)
        except RasterioError as error:
            raise self._damaged(error) from error
        tags = _tags(path) if driver == "GTiff" else {}
        if self.georeference is None:
            check_upright(path, _first(tags, Tag.ORIENTATION))
        self.size = self._file.height, self._file.width
        self.bands: int = self._file.count
        self.type = _sample_type(self._file, path)
        self.colours = _colours(self._file, tags)
        self.nodata: float | None = self._file.nodata
        self._masked = MaskFlags.per_dataset in self._file.mask_flag_enums[0] and (
            self.colours.alpha is None
        )

    def read(self, window: Window, bands: Sequence[int]) -> Samples:
        """See ``scene.Scene``."""
        with self._turn(window):
            samples: Samples = self._file.read(list(bands), window=_part(window))
        return samples

    def mask(self, window: Window) -> Mask | None:
        """See ``scene.Scene``."""
        if not self._masked:
            return None
        with self._turn(window):
            shown: Samples = self._file.read_masks(1, window=_part(window))
        return shown > 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _turn(self, window: Window) -> Iterator[None]:
        """This thread's turn to read a window, with a cache that is large enough."""
        # GDAL's own default grows with the machine's memory.
        cache_bytes = self._cache_bytes(window)
        with self._lock, rasterio.Env(GDAL_CACHEMAX=cache_bytes, **self._options):
            try:
                yield
            except RasterioError as error:
                raise self._damaged(error) from error

    def _cache_bytes(self, window: Window) -> int:
        height, width = self._file.block_shapes[0]
        if width < self._file.width:
            return CACHE_BYTES
        row = self._file.width * self.bands * self.type.dtype.itemsize
        return max(CACHE_BYTES, 2 * (window.height + height) * row)

    def _damaged(self, error: RasterioError) -> CorruptImage:
        # GDAL's own words are those of the error that led to rasterio's.
        return damaged(self._path, error.__cause__ or error)


def _part(window: Window) -> Any:
    return Part(window.left, window.top, window.width, window.height)


def _georeference(file: Any) -> Georeference | None:
    try:
        crs = file.crs.to_wkt() if file.crs else None
    except CRSError:
        crs = None
    if file.transform.is_identity and crs is None:
        return None
    a, b, c, d, e, f = tuple(file.transform)[:6]
    return Georeference((a, b, c, d, e, f), crs)


def _sample_type(file: Any, path: Path) -> SampleType:
    types = sorted(set(file.dtypes))
    if len(types) > 1 or types[0].startswith("complex"):
        what = " and ".join(types)
        raise UnsupportedImage(
            f"{path.name} has {what} samples, which are not read",
            limit="integer or floating-point samples, of all bands alike",
            value=what,
        )
    dtype = np.dtype(types[0])
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        bits = int(file.tags(1, ns=_STRUCTURE).get("NBITS", bits))
    return SampleType(dtype.kind, bits)


def _tags(path: Path) -> Mapping[Tag, Values]:
    """The tags of a TIFF, of which GDAL does not tell all."""
    directory = read_directory(mapped(path))
    found = {tag: directory.values(tag, tag.name) for tag in (Tag.ORIENTATION, Tag.EXTRA_SAMPLES)}
    return {tag: values for tag, values in found.items() if values is not None}


def _first(tags: Mapping[Tag, Values], tag: Tag) -> int:
    """A tag's first value, 0 if there is none."""
    return int(tags[tag].reshape(-1)[0]) if tag in tags and tags[tag].size else 0


def _colours(file: Any, tags: Mapping[Tag, Values]) -> Colours:
    meanings = file.colorinterp
    alpha = meanings.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in meanings else None
    premultiplied = _first(tags, Tag.EXTRA_SAMPLES) == ASSOCIATED
    shown: tuple[int, ...] | None = None
    if all(meaning in meanings for meaning in _RGB):
        shown = tuple(meanings.index(meaning) + 1 for meaning in _RGB)
    elif len(meanings) - (alpha is not None) == 1:
        shown = (1 if alpha != 1 else 2,)
    palette = None
    if meanings[0] == ColorInterp.palette and shown is not None:
        palette = _palette(file.colormap(1), 2 ** (8 * np.dtype(file.dtypes[0]).itemsize))
    inverted = file.tags(ns=_STRUCTURE).get("MINISWHITE") == "YES"
    return Colours(shown, alpha, premultiplied, palette, inverted)


def _palette(colours: dict[int, tuple[int, ...]], values: int) -> Bytes:
    table = np.zeros((values, 3), np.uint8)
    for value, colour in colours.items():
        table[value] = colour[:3]
    return table
