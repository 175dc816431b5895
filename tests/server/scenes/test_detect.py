"""What comes out of windows whose detector is told what it sees."""

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.scenes.scripted import (
    SIDE,
    Run,
    corners,
    facts,
    filled,
    found,
    pixels,
    seen,
    thing,
)
from vimserve.server.images.instance import Instance
from vimserve.server.scenes import detect, ground
from vimserve.server.scenes.scene import Georeference
from vimserve.server.scenes.sightings import NEAR
from vimserve.server.tasks.detect import Detected

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

# Windows of 64 pixels that overlap by 16 begin at 0, 48, 96, 144, 176.
SIZE = (240, 240)


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 30, 30),  # in one window
        (50, 10, 60, 30),  # whole in two
        (40, 10, 60, 30),  # cut in one of two
        (52, 52, 58, 58),  # whole in four
        (44, 44, 62, 62),  # cut in three of four
        (0, 100, 20, 120),  # at the scene's edge
        (220, 220, 240, 240),
        (20, 10, 90, 40),  # longer than the overlap: whole in none
        (10, 20, 40, 230),  # over five windows
        (20, 20, 200, 180),  # longer both ways
    ],
)
@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_an_object_comes_out_once(box, overlap, tmp_path):
    one = thing(box)
    assert found(tmp_path, SIZE, [one], overlap=overlap) == facts([one])


def test_masks_are_united(tmp_path):
    things = [filled(thing(box), SIZE) for box in [(20, 10, 190, 40), (50, 60, 60, 80)]]
    run = Run(tmp_path, SIZE, lambda window: seen(things, window))
    run.rest()
    objects = sorted(run.joiner._journal.objects(), key=lambda one: one.box[1])
    run.finish("coco")
    for one, came in zip(things, objects, strict=True):
        assert (pixels(came.mask) == pixels(one.mask)).all()


@pytest.mark.parametrize(
    "others",
    [
        [thing((40, 10, 47, 30)), thing((49, 10, 60, 30))],  # end to end, across an edge
        [thing((30, 10, 90, 20)), thing((30, 21, 90, 31))],  # longer than the overlap, in parallel
        [thing((40, 10, 80, 50), 0), thing((40, 10, 80, 50), 1)],  # of two classes
        [thing((10, 10, 110, 110)), thing((46, 46, 62, 62))],  # a small one on a large one
    ],
)
def test_neighbours_stay_two(others, tmp_path):
    assert sorted(found(tmp_path, SIZE, others)) == sorted(facts(others))


def test_what_a_window_saw_as_two_is_never_made_one(tmp_path):
    """A second window saw only one, which is like both."""
    close = [thing((50, 10, 60, 30), score=0.8), thing((50, 12, 60, 32), score=0.9)]
    middle = thing((50, 11, 60, 31), score=0.7)

    def see(window):
        return seen(close if window.left == 0 else [middle], window)

    run = Run(tmp_path, (64, 112), see)
    run.rest()
    objects = run.finish("coco")["annotations"]
    assert sorted(one["score"] for one in objects) == [0.8, 0.9]


def test_the_best_whole_one_is_kept(tmp_path):
    """Two windows saw it whole, and not quite alike; its score and box are of one of them."""
    of = {0: thing((52, 10, 59, 30), score=0.6), 48: thing((52, 11, 60, 31), score=0.8)}
    run = Run(tmp_path, (64, 112), lambda window: seen([of[window.left]], window))
    run.rest()
    (one,) = run.finish("coco")["annotations"]
    assert (one["score"], corners(one["bbox"])) == (0.8, (52, 11, 60, 31))


def test_a_part_is_left_out_where_another_window_saw_more(tmp_path):
    """What looks like another class at a window's edge, and what no other window confirms."""
    whole, part = thing((40, 10, 60, 30), 1, 0.8), thing((48, 10, 60, 30), 2, 0.99)
    false = thing((48, 40, 56, 50), 2, 0.99)

    def see(window):
        return seen([whole] if window.left == 0 else [part, false], window)

    run = Run(tmp_path, (64, 112), see)
    run.rest()
    (one,) = run.finish("coco")["annotations"]
    assert (one["category_id"], one["score"]) == (1, 0.8)


def test_windows_without_data(tmp_path):
    """Of an object that goes on where nothing is shown, the part is found that is shown."""
    one = thing((30, 10, 140, 30))
    run = Run(tmp_path, SIZE, lambda w: None if w.left in (48, 96) else seen([one], w))
    run.rest()
    boxes = [corners(one["bbox"]) for one in run.finish("coco")["annotations"]]
    assert boxes == [(30, 10, 64, 30)]
    run = Run(tmp_path / "empty", SIZE, lambda w: None)
    run.rest()
    assert run.finish("geojson") == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("scene_smaller", [(40, 50), (64, 64)])
def test_a_scene_in_one_window(scene_smaller, tmp_path):
    height, width = scene_smaller
    one = thing((0, 0, width, height))
    assert found(tmp_path, scene_smaller, [one]) == facts([one])


def crowd(seed, size, count, least, most):
    """Things anywhere, with masks of some."""
    rng = np.random.default_rng(seed)
    things = []
    for _ in range(count):
        height, width = rng.integers(least, most, 2)
        top, left = rng.integers(0, np.subtract(size, (height, width)))
        one = thing((left, top, left + width, top + height), int(rng.integers(3)), rng.random())
        things.append(filled(one, size))
    return things


@pytest.mark.parametrize("form", ["coco", "geojson"])
def test_an_interrupted_run_gives_the_same_bytes(form, tmp_path):
    things = crowd(1, SIZE, 40, 4, 90)
    whole = Run(tmp_path / "whole", SIZE, lambda window: seen(things, window))
    whole.rest()
    whole.finish(form)
    broken = Run(tmp_path / "broken", SIZE, whole.see)
    for number in range(len(broken.grid.tops) - 1):
        broken.row(number)
        # A part of the next row is lost with the process.
        for window in [*broken.grid.row(number + 1)][:3]:
            broken.joiner.add(window, broken.see(window))
        broken.joiner._journal.close()
        broken.open()
        assert broken.partial.rows == number + 1
    broken.rest()
    broken.finish(form)
    assert broken.output.read_bytes() == whole.output.read_bytes()
    assert len(whole.output.read_text().splitlines()) > 30


def test_a_damaged_file(tmp_path):
    run = Run(tmp_path, SIZE, lambda window: seen([], window))
    run.row(0)
    run.joiner._journal.close()
    (run.partial.folder / "objects.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"objects.jsonl is damaged; delete .*partial"):
        run.open()


def test_memory_is_for_what_may_be_seen_again(tmp_path):
    """20,000 objects in 100 windows; what is kept are a row's edge and a few windows'."""
    side, each = 100, 200
    rng = np.random.default_rng(0)
    corner = rng.random((each, 2)) * 90
    boxes = np.concatenate([corner, corner + 8], axis=1)

    def see(window):
        instances = [Instance(i % 5, 0.5, tuple(box)) for i, box in enumerate(boxes.tolist())]
        return Detected((side, side), instances)

    run = Run(tmp_path, (1000, 1000), see, overlap=0, side=side)
    most = 0
    for number in range(len(run.grid.tops)):
        for window in run.grid.row(number):
            run.joiner.add(window, run.see(window))
            most = max(most, len(run.joiner._merging.open))
        run.joiner.end_row(number)
    # The things that end within NEAR of a window's right or lower edge.
    late = (boxes[:, 2:] > side - NEAR).any(axis=1).sum()
    assert 0 < most <= 2 * late * (len(run.grid.lefts) + 2)
    assert most < 1000
    run.joiner._journal.close()
    with (run.partial.folder / "objects.jsonl").open("rb") as file:
        assert sum(1 for _ in file) > 18_000


@pytest.mark.parametrize("form", ["coco", "geojson"])
def test_a_file_is_written_object_by_object(form, tmp_path, monkeypatch):
    """Four times as many objects take no more memory."""
    monkeypatch.setattr(ground, "TOGETHER", 64)

    def peak(count):
        run = Run(tmp_path / str(count), SIZE, lambda window: None)
        run.joiner._journal.write(thing((i, 0, i + 9, 9)) for i in range(count))
        run.rest()
        tracemalloc.start()
        run.joiner.finish(run.output, form)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(run.output.read_text().splitlines()) == count + 2
        return most

    peak(10)  # what is made only once
    assert peak(1600) < 1.5 * peak(400)


def test_coco_of_a_scene(tmp_path):
    from pycocotools.coco import COCO

    things = [filled(thing((20, 10, 190, 40), 3), SIZE), filled(thing((50, 60, 60, 80), 1), SIZE)]
    run = Run(tmp_path, SIZE, lambda window: seen(things, window))
    run.rest()
    run.finish("coco")
    dataset = COCO(run.output)
    (image,) = dataset.loadImgs(dataset.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("scene.tif", *SIZE)
    by_class = {one["category_id"]: one for one in dataset.loadAnns(dataset.getAnnIds())}
    for one in things:
        annotation = by_class[one.index]
        assert (dataset.annToMask(annotation) == pixels(one.mask)).all()
        assert (corners(annotation["bbox"]), annotation["score"]) == (one.box, one.score)
    assert [one["name"] for one in dataset.loadCats([3])] == ["class 3"]


def test_geojson_in_pixels_and_on_the_earth(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    degrees = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    masked, boxed = filled(thing((20, 10, 190, 40), 3, 0.75), SIZE), thing((50, 60, 60, 80))
    for place, scale in (None, 1), (Georeference((0.5, 0, 0, 0, 0.25, 0), degrees), (0.5, 0.25)):
        run = Run(tmp_path, SIZE, lambda w: seen([masked, boxed], w), georeference=place)
        run.rest()
        by_class = {one["properties"]["index"]: one for one in run.finish("geojson")["features"]}
        box = np.array(by_class[0]["geometry"]["coordinates"][0])
        assert np.ptp(box, axis=0) == pytest.approx(np.multiply((10, 20), scale))
        (polygon,) = by_class[3]["geometry"]["coordinates"]
        (ring,) = polygon
        assert np.max(ring, axis=0) == pytest.approx(np.multiply((190, 40), scale))
        assert len(ring) == 7  # a box without a corner
        assert by_class[3]["properties"] == {
            "objectType": "detection",
            "classification": {"name": "class 3", "color": [128, 128, 0]},
            "measurements": {"score": 0.75},
            "index": 3,
            "pixels": 170 * 30 - 1,
        }
        run.partial.remove()


def test_what_coco_has_no_room_for():
    detect.check("geojson", (70_000, 70_000))
    detect.check("coco", (60_000, 70_000))
    with pytest.raises(ValueError, match="fewer than 4294967296 pixels, not for 70000x70000"):
        detect.check("coco", (70_000, 70_000))


@st.composite
def scenes(draw):
    """A grid, and things in cells of a raster, so that they are apart."""
    size = draw(st.tuples(st.integers(40, 220), st.integers(40, 220)))
    overlap = draw(st.integers(4 * int(NEAR), SIDE // 2))
    raster = draw(st.integers(10, 50))
    things = []
    for top in range(0, size[0], raster):
        for left in range(0, size[1], raster):
            if draw(st.booleans()):
                x, y, right, bottom = (draw(st.integers(0, raster // 3)) for _ in range(4))
                box = (left + x, top + y, left + raster - right, top + raster - bottom)
                if box[2] <= size[1] and box[3] <= size[0]:
                    things.append(thing(box, draw(st.integers(0, 2)), draw(st.floats(0.1, 1))))
    return size, overlap, things


@given(scenes())
@settings(max_examples=30, deadline=None)
def test_what_a_window_sees_whole_comes_out_once_with_its_box(scene):
    size, overlap, things = scene
    with TemporaryDirectory() as folder:
        came = found(Path(folder), size, things, overlap=overlap)
    assert sorted(came) == sorted(facts(things))
