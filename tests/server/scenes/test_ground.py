import sys

import numpy as np
import pytest
import shapely

from vimserve.server.scenes.ground import placing
from vimserve.server.scenes.scene import Georeference

rasterio = pytest.importorskip("rasterio")


def wkt(code):
    return rasterio.crs.CRS.from_epsg(code).to_wkt()


def corners(shape):
    return shapely.get_coordinates(shape).tolist()


def test_pixels_stay_pixels_where_nothing_is_known():
    clockwise = shapely.Polygon([(0, 0), (0, 4), (3, 4), (3, 0)])
    for georeference in (None, Georeference((1, 0, 7, 0, 1, 7), None)):
        (placed,) = placing(georeference)(np.array([clockwise]))
        assert placed.equals(clockwise)
        assert placed.exterior.is_ccw


def test_degrees_are_longitude_and_latitude():
    place = placing(Georeference((0.5, 0.0, 10.0, 0.0, -0.25, 50.0), wkt(4326)))
    (placed,) = place(np.array([shapely.box(0, 0, 2, 4)]))
    assert placed.bounds == (10.0, 49.0, 11.0, 50.0)
    assert placed.exterior.is_ccw


def test_a_turned_scene():
    place = placing(Georeference((0.0, 1.0, 5.0, 2.0, 0.0, 6.0), wkt(4326)))
    (placed,) = place(np.array([shapely.LineString([(0, 0), (1, 0), (1, 3)])]))
    assert corners(placed) == [[5, 6], [5, 8], [8, 8]]


def test_metres_of_a_zone():
    """The central meridian of UTM's zone 33 is 15° E; its points of the equator are known."""
    place = placing(Georeference((10.0, 0.0, 500000.0, 0.0, -10.0, 0.0), wkt(32633)))
    (placed,) = place(np.array([shapely.LineString([(0, 0), (100, 0)])]))
    (start, end) = corners(placed)
    assert start == pytest.approx([15, 0], abs=1e-8)
    # A kilometre of the equator, by the ellipsoid's radius and the zone's scale.
    assert end == pytest.approx([15 + np.degrees(1000 / 6378137 / 0.9996), 0], abs=1e-6)


def test_a_shape_across_the_180th_meridian_is_cut():
    place = placing(Georeference((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), wkt(3832)))  # around 150° E
    there = rasterio.warp.transform("EPSG:4326", "EPSG:3832", [179, -179], [1, 0])
    (left, right), (top, bottom) = there
    box = shapely.box(left, -top, right, -bottom)
    whole, cut = place(np.array([shapely.box(0, 0, 9, 9), box]))
    assert whole.geom_type == "Polygon"
    assert cut.geom_type == "MultiPolygon"
    assert sorted(part.bounds for part in cut.geoms) == [
        pytest.approx((-180, 0, -179, 1), abs=1e-6),
        pytest.approx((179, 0, 180, 1), abs=1e-6),
    ]
    assert all(part.exterior.is_ccw for part in cut.geoms)


def test_what_lies_nowhere():
    satellite = (
        'PROJCS["far",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Orthographic"],PARAMETER["latitude_of_origin",0],'
        'PARAMETER["central_meridian",0],UNIT["metre",1]]'
    )
    place = placing(Georeference((1e6, 0.0, 0.0, 0.0, -1e6, 0.0), satellite))
    assert place(np.array([shapely.box(0, 0, 1, 1)]))[0].bounds[0] == 0
    with pytest.raises(ValueError, match="lies nowhere on the Earth"):
        place(np.array([shapely.LineString([(0, 0), (9, 0)])]))


def test_an_unknown_system():
    with pytest.raises(ValueError, match="coordinate reference system is unknown"):
        placing(Georeference((1, 0, 0, 0, 1, 0), "nonsense"))


def test_without_rasterio(monkeypatch):
    degrees = wkt(4326)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ValueError, match=r"vimserve\[geo\]"):
        placing(Georeference((1, 0, 0, 0, 1, 0), degrees))
