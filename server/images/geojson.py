"""Renders class maps and found objects as GeoJSON, in pixels.

RFC 7946 wants degrees of longitude and latitude for coordinates, which a picture does not have.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import shapely

from vimserve.model.palette import Palette
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths

# Polygons are made of straight pieces of boundary. So many take a few seconds and some 30 MB.
MOST_PIECES = 2**18
OUTSIDE = 256  # no class


def feature_collection(
    classes: np.ndarray[Any, np.dtype[np.uint8]], labels: Sequence[str], palette: Palette
) -> str:
    """A FeatureCollection whose polygons together cover the image, in its pixels.

    Regions are connected by pixels' sides, not by their corners. Each is a feature, with the
    property ``classification`` that QuPath reads.

    Args:
        classes: uint8 ``[H, W]``.
        labels: the classes' names.
        palette: the classes' colours.

    Raises:
        ImageTooLarge: if the boundaries have more than ``MOST_PIECES`` pieces.
    """
    pieces = _boundary(classes)
    _check(len(pieces), "format", "format=png or format=coco")
    regions = shapely.get_parts(shapely.polygonize(shapely.linestrings(pieces)))
    regions = shapely.orient_polygons(regions, exterior_cw=False)
    inside = np.floor(shapely.get_coordinates(shapely.point_on_surface(regions))).astype(int)
    features = (
        {
            "type": "Feature",
            "geometry": json.loads(geometry),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": labels[i], "color": palette[i]},
                "index": i,
                "pixels": int(pixels),
            },
        }
        for geometry, i, pixels in zip(
            shapely.to_geojson(regions),
            classes[inside[:, 1], inside[:, 0]].tolist(),
            shapely.area(regions),
            strict=True,
        )
    )
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def collection_of(instances: Sequence[Instance], labels: Sequence[str], palette: Palette) -> str:
    """A FeatureCollection with a feature for each of ``instances``, which QuPath reads.

    Its geometry is that of its mask, or its box where it has none or an empty one.

    Args:
        instances: what was found.
        labels: the classes' names.
        palette: the classes' colours.

    Raises:
        ImageTooLarge: as ``multi_polygons``.
    """
    geometries: Iterable[Any] = repeat(None)
    if masks := [one.mask for one in instances if one.mask is not None]:
        geometries = multi_polygons(masks, "format", "format=coco")
    features = [
        feature(one, shape if shape and shape["coordinates"] else _frame(one), labels, palette)
        for one, shape in zip(instances, geometries, strict=False)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def feature(
    one: Instance, geometry: Mapping[str, Any], labels: Sequence[str], palette: Palette
) -> dict[str, Any]:
    """A found object as a Feature, which QuPath reads.

    Args:
        one: the object.
        geometry: where it is.
        labels: the classes' names.
        palette: the classes' colours.
    """
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            "classification": {"name": labels[one.index], "color": palette[one.index]},
            "measurements": {"score": one.score},
            "index": one.index,
        }
        | ({} if one.mask is None else {"pixels": one.mask.area}),
    }


def multi_polygons(
    masks: Sequence[RunLengths], parameter: str, instead: str
) -> Iterator[dict[str, Any]]:
    """The regions of each mask as a GeoJSON MultiPolygon, which may be empty.

    Args:
        masks: of one picture.
        parameter: what the client asked for polygons with.
        instead: what it may ask for instead.

    Raises:
        ImageTooLarge: at once, if the masks' boundaries together have more than ``MOST_PIECES``
            straight pieces.
    """
    boundaries, pieces = [], 0
    for mask in masks:
        boundaries.append(mask.outline())
        pieces += len(boundaries[-1])
        _check(pieces, parameter, instead)
    return (
        json.loads(shapely.to_geojson(shapely.multipolygons(mask.polygons(boundary))))
        for mask, boundary in zip(masks, boundaries, strict=True)
    )


def _frame(one: Instance) -> Any:
    """The box as a polygon."""
    return json.loads(shapely.to_geojson(shapely.box(*one.box)))


def _check(pieces: int, parameter: str, instead: str) -> None:
    if pieces > MOST_PIECES:
        raise ImageTooLarge(
            f"the boundaries of the masks have {pieces} straight pieces or more, but polygons are "
            f"made of at most {MOST_PIECES}; ask for {instead}",
            parameter=parameter,
            limit=MOST_PIECES,
            value=pieces,
        )


def _boundary(
    classes: np.ndarray[Any, np.dtype[np.uint8]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The straight pieces of all boundaries, from corner to corner: ``[pieces, 2, (x, y)]``."""
    framed = np.pad(classes.astype(np.int16), 1, constant_values=OUTSIDE)
    # Which unit edges of the grid of pixel corners, [H + 1, W + 1], separate two classes.
    right, down = (np.zeros(np.add(classes.shape, 1), dtype=bool) for _ in range(2))
    right[:, :-1] = framed[:-1, 1:-1] != framed[1:, 1:-1]
    down[:-1] = framed[1:-1, :-1] != framed[1:-1, 1:]
    left, up = np.roll(right, 1, axis=1), np.roll(down, 1, axis=0)
    level, upright = left & right & ~(up | down), up & down & ~(left | right)
    # In each row a piece's end comes after its start, and so in each column of the transposed ones.
    across = [_places(edge & ~level) for edge in (right, left)]
    along = [_places((edge & ~upright).T)[:, ::-1] for edge in (down, up)]
    return np.concatenate([np.stack(across, axis=1), np.stack(along, axis=1)]).astype(float)


def _places(marked: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.intp]]:
    """The (column, row) of every true element, row by row."""
    return np.argwhere(marked)[:, ::-1]
