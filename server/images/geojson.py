"""Renders a class map as GeoJSON: a polygon, with its holes, for each connected region."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from vimserve.model.palette import Palette
from vimserve.server.errors import ImageTooLarge

# Polygons are made of straight pieces of boundary. So many take a few seconds and some 30 MB.
MOST_PIECES = 2**18
OUTSIDE = 256  # no class


def feature_collection(
    classes: np.ndarray[Any, np.dtype[np.uint8]], labels: Sequence[str], palette: Palette
) -> str:
    """A FeatureCollection whose polygons together cover the image, in its pixels.

    Regions are connected by pixels' sides, not by their corners. Each is a feature, with the
    property ``classification`` that QuPath reads. RFC 7946 wants degrees of longitude and latitude
    for coordinates, which a picture does not have.

    Args:
        classes: uint8 ``[H, W]``.
        labels: the classes' names.
        palette: the classes' colours.

    Raises:
        ImageTooLarge: if the boundaries have more than ``MOST_PIECES`` pieces.
    """
    pieces = _boundary(classes)
    if len(pieces) > MOST_PIECES:
        raise ImageTooLarge(
            f"the boundaries of the mask's regions have {len(pieces)} straight pieces, but "
            f"polygons are made of at most {MOST_PIECES}; ask for format=png or format=coco",
            parameter="format",
            limit=MOST_PIECES,
            value=len(pieces),
        )
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
