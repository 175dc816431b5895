"""Where a scene's shapes lie on the Earth, as GeoJSON (RFC 7946) wants it."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import shapely

from vimserve.server.scenes.scene import Georeference

Shapes = np.ndarray[Any, np.dtype[np.object_]]
Points = np.ndarray[Any, np.dtype[np.float64]]

T = TypeVar("T")

TOGETHER = 1024  # shapes that are placed at a time
NO_RASTERIO = "where a scene lies is told with the extra geo: pip install 'vimserve[geo]'"
NOWHERE = "a part of the result lies nowhere on the Earth by the scene's reference system"
DECIMALS = 9  # of a degree: a tenth of a millimetre


def placing(georeference: Georeference | None) -> Callable[[Shapes], Shapes]:
    """What makes shapes in a scene's pixels ones in degrees of longitude and latitude (WGS 84).

    Only corners are computed; what is straight in the scene stays straight. A shape across the
    180th meridian becomes one of two parts. Exterior rings run counterclockwise.

    Args:
        georeference: of the scene. Shapes stay in pixels without it, or if it names no system.

    Returns:
        a function from Shapely's geometries to as many.

    Raises:
        ValueError: if the system is unknown, or rasterio is not installed; and by the function if a
            corner lies nowhere on the Earth.
    """
    if georeference is None or georeference.crs is None:
        return _oriented
    to_degrees = _to_degrees(georeference)

    def place(shapes: Shapes) -> Shapes:
        placed = shapely.transform(shapes, to_degrees)
        west, _, east, _ = shapely.bounds(placed).T
        for i in np.flatnonzero(east - west > 180):
            placed[i] = _cut(placed[i])
        return _oriented(placed)

    return place


def geometries(
    georeference: Georeference | None, shapes: Iterable[tuple[Any, T]]
) -> Iterator[tuple[dict[str, Any], T]]:
    """Shapes in a scene's pixels as geometries of GeoJSON, with whatever comes with each of them.

    Raises:
        ValueError: as ``placing``.
    """
    place, rest = placing(georeference), iter(shapes)
    while together := list(islice(rest, TOGETHER)):
        written = shapely.to_geojson(place(np.array([shape for shape, _ in together])))
        for text, (_, what) in zip(written, together, strict=True):
            yield json.loads(text), what


def _oriented(shapes: Shapes) -> Shapes:
    return shapely.orient_polygons(shapes, exterior_cw=False)


def _to_degrees(georeference: Georeference) -> Callable[[Points], Points]:
    try:
        from rasterio import warp
        from rasterio._err import CPLE_BaseError
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
    except ImportError as error:
        raise ValueError(f"{NO_RASTERIO} ({error})") from error
    try:
        system = CRS.from_wkt(georeference.crs)
    except CRSError as error:
        raise ValueError(f"the scene's coordinate reference system is unknown: {error}") from error
    a, b, c, d, e, f = georeference.transform
    degrees = CRS.from_epsg(4326)

    def convert(points: Points) -> Points:
        x, y = points.T
        try:
            placed = warp.transform(system, degrees, a * x + b * y + c, d * x + e * y + f)
        except CPLE_BaseError as error:
            raise ValueError(f"{NOWHERE}: {error}") from error
        if not np.isfinite(placed).all():
            raise ValueError(NOWHERE)
        return np.array(placed).T.round(DECIMALS)

    return convert


def _cut(shape: Any) -> Any:
    """A shape that spans the 180th meridian, as the parts on its two sides."""
    onward = shapely.transform(shape, lambda points: points + [[360, 0]] * (points[:, :1] < 0))
    west = shapely.intersection(onward, shapely.box(0, -90, 180, 90))
    east = shapely.intersection(onward, shapely.box(180, -90, 360, 90))
    east = shapely.transform(east, lambda points: points - [[360, 0]])
    return shapely.multipolygons([*shapely.get_parts(west), *shapely.get_parts(east)])
