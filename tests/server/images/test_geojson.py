import json

import geojson
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vimserve.model.palette import make_palette
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.geojson import MOST_PIECES, feature_collection

LABELS = ["sky", "dog", "tree"]
PALETTE = make_palette(3)


def features_of(classes):
    return json.loads(feature_collection(classes, LABELS, PALETTE))["features"]


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))
)
def test_the_polygons_are_the_class_map(classes):
    rows, cols = np.indices(classes.shape)
    seen = np.full_like(classes, 255)
    for feature in features_of(classes):
        polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shapely.is_valid(polygon)
        inside = shapely.contains_xy(polygon, cols + 0.5, rows + 0.5)
        assert (seen[inside] == 255).all()
        seen[inside] = feature["properties"]["index"]
        assert inside.sum() == polygon.area == feature["properties"]["pixels"]
    assert (seen == classes).all()


def test_a_feature_is_a_region_as_qupath_reads_it():
    classes = np.zeros((6, 8), np.uint8)
    classes[1:5, 1:5] = 1
    classes[2:4, 2:4] = 2
    classes[5, 7] = 1  # touches nothing of its class
    written = feature_collection(classes, LABELS, PALETTE)
    collection = geojson.loads(written)
    assert collection.is_valid, collection.errors()
    found = [
        (one["properties"]["classification"]["name"], one["properties"]["pixels"])
        for one in collection["features"]
    ]
    assert sorted(found) == [("dog", 1), ("dog", 12), ("sky", 31), ("tree", 4)]
    for one in collection["features"]:
        properties = one["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"]["color"] == list(PALETTE[properties["index"]])
    (dog,) = (one for one in collection["features"] if one["properties"]["pixels"] == 12)
    outer, hole = dog["geometry"]["coordinates"]
    assert sorted(map(tuple, outer[:-1])) == [(1, 1), (1, 5), (5, 1), (5, 5)]
    assert sorted(map(tuple, hole[:-1])) == [(2, 2), (2, 4), (4, 2), (4, 4)]


def test_noise_is_refused():
    side = int(MOST_PIECES**0.5)
    noise = np.random.default_rng(0).integers(0, 3, (side, side), np.uint8)
    with pytest.raises(ImageTooLarge, match=f"at most {MOST_PIECES}") as refused:
        features_of(noise)
    assert refused.value.limit == MOST_PIECES
