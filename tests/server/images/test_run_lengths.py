import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from vimserve.kernels.paste_masks.naive import encode
from vimserve.server.images.run_lengths import RunLengths

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans())


def run_lengths(mask):
    counts, _ = encode(torch.from_numpy(np.array(mask))[None])
    return RunLengths(counts.numpy(), mask.shape)


@given(MASKS)
def test_as_pycocotools_writes_it(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = run_lengths(mask)
    assert runs.compressed() == encoded["counts"].decode()
    assert runs.area == mask.sum()


@given(MASKS)
def test_what_pycocotools_writes_is_read(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    read = RunLengths.read(encoded["counts"].decode(), mask.shape)
    assert read.size == mask.shape
    whole = np.repeat(np.arange(len(read.counts)) % 2, read.counts)
    np.testing.assert_array_equal(whole.reshape(mask.shape[::-1]).T, mask)
    assert read.counts.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "not what pycocotools writes"), ("51`1x", "not what pyco"), ("5 1", "not what pyco"),
     ("5€1", "not what pyco"), ("5q", "not what pyco"), ("51`", "not what pyco"),
     ("o" * 7 + "0", "too many digits"), ("51", "do not add up to 32x48"),
     ("P`1O", "do not add up"), ("P`1", None), ("0P`1", None)],
)  # fmt: skip
def test_what_is_no_mask(text, words):
    if words is None:
        assert RunLengths.read(text, (32, 48)).counts.sum() == 32 * 48
        return
    with pytest.raises(ValueError, match=words):
        RunLengths.read(text, (32, 48))


@given(MASKS)
def test_its_pixels(mask):
    inside, (left, top) = run_lengths(mask).pixels()
    height, width = inside.shape
    seen = np.zeros_like(mask)
    seen[top : top + height, left : left + width] = inside
    assert (seen == mask).all()
    if mask.any():
        assert all(inside.take(side, axis).any() for axis in (0, 1) for side in (0, -1))


@given(MASKS)
def test_its_polygons(mask):
    runs = run_lengths(mask)
    rows, cols = np.indices(mask.shape)
    seen = np.zeros(mask.shape, int)
    for polygon in runs.polygons(runs.outline()):
        assert shapely.is_valid(polygon)
        assert polygon.exterior.is_ccw
        inside = shapely.contains_xy(polygon, cols + 0.5, rows + 0.5)
        assert inside.sum() == polygon.area
        seen += inside
    assert (seen == mask).all()


def test_regions_that_touch_at_a_corner_are_two():
    runs = run_lengths(np.eye(2, dtype=bool))
    assert [polygon.area for polygon in runs.polygons(runs.outline())] == [1, 1]


def test_a_ring_has_a_hole_and_no_needless_corner():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 2:11] = True
    mask[3:5, 4:9] = False
    runs = run_lengths(mask)
    (ring,) = runs.polygons(runs.outline())
    assert len(runs.outline()) == 8
    assert sorted(ring.exterior.coords[1:]) == [(2, 1), (2, 8), (11, 1), (11, 8)]
    assert sorted(ring.interiors[0].coords[1:]) == [(4, 3), (4, 5), (9, 3), (9, 5)]


@pytest.mark.parametrize("shape", [(3, 5), (5, 1)])
def test_the_whole_picture(shape):
    runs = run_lengths(np.ones(shape, bool))
    (frame,) = runs.polygons(runs.outline())
    assert frame.equals(shapely.box(0, 0, *shape[::-1]))
    assert len(runs.outline()) == 4


@given(MASKS, st.tuples(*[st.integers(0, 3)] * 4))
def test_moved_into_a_larger_picture(mask, margins):
    left, top, right, bottom = margins
    larger = np.pad(mask, ((top, bottom), (left, right)))
    moved = run_lengths(mask).moved(left, top, larger.shape)
    assert moved.compressed() == run_lengths(larger).compressed()
    assert moved.size == larger.shape


@given(array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.tuples(*[arrays(bool, shape, elements=st.booleans())] * 2)
))  # fmt: skip
def test_united(masks):
    one, other = map(run_lengths, masks)
    assert one.united(other).compressed() == run_lengths(np.logical_or(*masks)).compressed()


def test_a_mask_in_a_scene_takes_no_more_than_its_runs():
    size = (200_000, 300_000)
    (square,) = [run_lengths(np.ones((3, 2), bool)).moved(250_000, 100_000, size)]
    assert square.counts.tolist()[1:4] == [3, 199_997, 3]
    (polygon,) = square.polygons(square.outline())
    assert polygon.equals(shapely.box(250_000, 100_000, 250_002, 100_003))
