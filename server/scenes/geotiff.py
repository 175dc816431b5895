"""What writers of GeoTIFF have in common; it needs the extra geo."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vimserve.model.slide import Window
from vimserve.server.scenes.scene import Georeference, Samples

CACHE_MB = 64  # of GDAL, which would take a twentieth of the memory
NOT_WRITTEN = "the GeoTIFF could not be written; the disk may be full"


def needs_geo(what: str) -> None:
    """Refuse to write something without rasterio.

    Raises:
        ValueError: one line.
    """
    try:
        import rasterio  # noqa: F401
    except ImportError:
        raise ValueError(
            f"writing {what} needs the extra geo: pip install 'vimserve[geo]'"
        ) from None


def write(
    path: Path,
    georeference: Georeference | None,
    parts: Callable[[], Iterable[tuple[Window, Samples]]],
    describe: Callable[[Any], None],
    **profile: Any,
) -> None:
    """Write a GeoTIFF, and read it back.

    GDAL keeps to itself what it could not write when the file was closed.

    Args:
        path: of the file; what is there is replaced.
        georeference: where it lies.
        parts: all of its windows with their samples ``[bands, height, width]``; called twice.
        describe: adds to rasterio's open file what is not samples.
        profile: arguments of ``rasterio.open``.

    Raises:
        OSError: if it cannot be written, or is not what was written to it.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    path.unlink(missing_ok=True)  # rasterio would look into what an interrupted run left
    try:
        with gdal(), rasterio.open(
            path, "w", driver="GTiff", bigtiff="if_safer", compress="deflate",
            **place_of(georeference), **profile,
        ) as file:  # fmt: skip
            describe(file)
            for window, samples in parts():
                file.write(samples, window=_part(window))
        with gdal(), rasterio.open(path) as file:
            whole = all(
                np.array_equal(file.read(window=_part(window)), samples, equal_nan=True)
                for window, samples in parts()
            )
    except (RasterioError, CPLE_BaseError) as error:
        raise OSError(f"{NOT_WRITTEN} ({error.__cause__ or error})") from error
    if not whole:
        raise OSError(NOT_WRITTEN)


def _part(window: Window) -> Any:
    from rasterio.windows import Window as Part

    return Part(window.left, window.top, window.width, window.height)


def place_of(georeference: Georeference | None) -> dict[str, Any]:
    """Where a new file lies, as arguments of ``rasterio.open``."""
    import rasterio
    from rasterio.crs import CRS

    if georeference is None:
        return {}
    where: dict[str, Any] = {"transform": rasterio.Affine(*georeference.transform)}
    if georeference.crs is not None:
        where["crs"] = CRS.from_wkt(georeference.crs)
    return where


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL with little memory, which does not mind files that lie nowhere."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
