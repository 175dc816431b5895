import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.server.detector import BOXER, DISC, FULL, LABELS, SPEC
from vimserve.model.detections import MOST, Selection, pack
from vimserve.model.transform import Transform
from vimserve.server.errors import ImageTooLarge, InvalidParameter
from vimserve.server.images.prepare import Measured, whole
from vimserve.server.tasks import TASKS, detect

TASK = TASKS["detect"]


def plan(spec=SPEC, form=None, **given):
    return TASK.plan(spec, TASK.ask(given), 1248, form)


def measured(height, width):
    class Picture:
        size = (height, width)

        def picture(self, _transform):
            return Image.new("RGB", (width, height), "teal")

    picture: Any = Picture()
    unused: Any = None
    return Measured((32, 32), whole((32, 32)), [4], None, picture, unused, unused)


def rows(boxes, scores, classes, masks=None, most=100):
    return pack(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(classes),
        None if masks is None else torch.tensor(np.array(masks), dtype=torch.float32),
        most,
    )


def test_what_is_wanted_by_default():
    assert plan().wanted(measured(100, 208)) == Selection((96, 208), 0.5, 100, masks=False)
    asked = plan(score_threshold="0.05", max_detections=str(MOST), masks="rle")
    assert asked.wanted(measured(64, 64)) == Selection((64, 64), 0.05, MOST, masks=True)


@pytest.mark.parametrize(
    ("spec", "form", "masks", "wanted"),
    [
        (SPEC, None, None, False),
        (SPEC, None, "none", False),
        (SPEC, None, "polygon", True),
        (SPEC, "coco", None, True),
        (SPEC, "overlay", "none", False),
        (BOXER, "geojson", None, False),
        (BOXER, None, "none", False),
    ],
)
def test_files_have_masks_where_there_are_any(spec, form, masks, wanted):
    given = {} if masks is None else {"masks": masks}
    assert plan(spec, form, **given).wanted(measured(64, 64)).masks is wanted


def test_a_threshold_of_zero_is_not_the_default():
    assert plan(score_threshold=0).wanted(measured(64, 64)).score_threshold == 0


def test_the_image_s_own_size_reduced_to_the_limit():
    assert plan().transform.output_size(100, 208) == (96, 208)
    assert plan().transform.output_size(5, 5) == (32, 32)
    assert plan().transform.output_size(3000, 1500) == (1248, 624)
    square = plan(fit="square").transform
    assert square.output_size(100, 208) == (224, 224)
    assert square.output_size(3000, 1500) == (1248, 1248)
    assert plan(fit="square").wanted(measured(100, 208)).size == (108, 224)


@pytest.mark.parametrize(
    ("given", "parameter", "limit"),
    [
        ({"resolution": "100", "fit": "square"}, "resolution", 32),
        ({"resolution": "1249"}, "resolution", 1248),
        ({"fit": "crop"}, "fit", "'contain' or 'square'"),
        ({"score_threshold": "-0.1"}, "score_threshold", 0),
        ({"score_threshold": "1.1"}, "score_threshold", 1),
        ({"score_threshold": "nan"}, "score_threshold", "a number from 0 to 1"),
        ({"score_threshold": "inf"}, "score_threshold", "a number from 0 to 1"),
        ({"score_threshold": "half"}, "score_threshold", "a number from 0 to 1"),
        ({"max_detections": "0"}, "max_detections", 1),
        ({"max_detections": str(MOST + 1)}, "max_detections", MOST),
        ({"masks": "png"}, "masks", "'none', 'rle' or 'polygon'"),
        ({"top_k": 3}, "top_k", None),
    ],
)
def test_what_cannot_be_asked(given, parameter, limit):
    with pytest.raises(InvalidParameter) as caught:
        plan(**given)
    assert (caught.value.parameter, caught.value.limit) == (parameter, limit)
    assert str(caught.value.value) == str(given[parameter])


@pytest.mark.parametrize("form", [None, "coco"])
def test_no_masks_of_a_model_that_has_none(form):
    with pytest.raises(InvalidParameter, match="'boxer' finds boxes only") as caught:
        plan(BOXER, form, masks="rle")
    assert (caught.value.limit, caught.value.value) == ("none", "rle")


def test_boxes_are_brought_to_the_image_clipped_and_dropped():
    # The image of 300 x 100 pixels becomes 304 x 96.
    boxes = [[0, 0, 152, 48], [-9, 5, 400, 200], [10, 10, 10, 50], [303, 95, 310, 99]]
    result = plan().conclude(measured(100, 300), [rows(boxes, [0.9, 0.8, 0.7, 0.6], [2, 0, 1, 1])])
    assert result.size == (100, 300)
    assert [one.index for one in result.instances] == [2, 0, 1]
    assert [one.score for one in result.instances] == pytest.approx([0.9, 0.8, 0.6])
    first, second, last = (one.box for one in result.instances)
    assert first == pytest.approx((0, 0, 150, 50))
    assert second == pytest.approx((0, 5 * 100 / 96, 300, 100))
    assert last == pytest.approx((303 * 300 / 304, 95 * 100 / 96, 300, 100))


def test_masks_are_pasted_at_the_image_s_size_and_go_with_their_boxes():
    boxes = [[0, 0, 16, 16], [4, 4, 4, 9], [8, 8, 24, 32]]
    result = plan(masks="rle").conclude(
        measured(64, 64), [rows(boxes, [0.9, 0.8, 0.7], [0, 1, 2], [FULL, FULL, DISC])]
    )
    square, disc = (one.mask for one in result.instances)
    inside, corner = square.pixels()
    # The middles of the outermost values lie 1/56 of the box from its edge, where the mask fades.
    assert (inside.all(), corner) == (True, (0, 0))
    assert square.area == pytest.approx(16 * 16, rel=0.1)
    inside, (left, top) = disc.pixels()
    assert 8 <= left < 10
    assert 8 <= top < 10
    assert disc.area == pytest.approx(np.pi / 4 * 16 * 24, rel=0.05)
    assert not inside[0, 0]


def test_the_padding_of_a_square_is_no_part_of_the_image():
    asked = plan(fit="square", resolution="64")
    one = measured(50, 100)
    assert asked.wanted(one).size == (32, 64)
    result = asked.conclude(one, [rows([[0, 0, 64, 32]], [0.9], [0])])
    assert result.instances[0].box == (0, 0, 100, 50)


def test_masks_that_are_too_intricate(monkeypatch):
    monkeypatch.setattr(detect, "MOST_RUNS", 100)
    boxes = [[0, 0, 32, 32]] * 20
    with pytest.raises(ImageTooLarge, match="may have 100; ask for masks=none") as caught:
        plan(masks="rle").conclude(
            measured(32, 32), [rows(boxes, [0.9] * 20, [0] * 20, [DISC] * 20)]
        )
    assert caught.value.limit == 100


def test_masks_that_are_too_wide_are_not_begun(monkeypatch):
    monkeypatch.setattr(detect, "paste_masks", None)
    wide = detect.MOST_RUNS // 2 + 1
    with pytest.raises(ImageTooLarge, match="ask for masks=none") as caught:
        plan(masks="rle", fit="square", resolution="32").conclude(
            measured(1, wide), [rows([[0, 0, 32, 1]], [0.9], [0], [FULL])]
        )
    assert caught.value.value == 2 * wide


def result():
    boxes = [[0, 0, 160, 80], [200, 20, 210, 30]]
    return plan(masks="rle").conclude(
        measured(100, 320), [rows(boxes, [0.96, 0.51], [1, 0], [DISC, FULL])]
    )


def test_the_command_line_prints_boxes():
    assert list(TASK.lines(SPEC, TASK.ask({}), result())) == [
        " 96.00%  boat  0,0 to 160,83",
        " 51.00%  apple  200,21 to 210,31",
    ]


def test_files():
    files = {form: TASK.file(SPEC, form, measured(100, 320), result()) for form in TASK.formats}
    page = Image.open(io.BytesIO(files["overlay"]))
    assert (page.format, page.size) == ("JPEG", (320, 100))
    names = {one["id"]: one["name"] for one in json.loads(files["coco"])["categories"]}
    assert tuple(names.values()) == LABELS
    found = json.loads(files["geojson"])["features"]
    assert [one["properties"]["classification"]["name"] for one in found] == ["boat", "apple"]


def test_a_transform_of_its_own_resolution_is_the_default():
    published = replace(SPEC, transform=Transform(resolution=1024, fit="square", minimum=32))
    assert plan(published).transform.output_size(683, 1024) == (1024, 1024)
    assert plan(published, fit="contain").transform.output_size(683, 1024) == (688, 1024)
    with pytest.raises(InvalidParameter, match="multiple of 32, not 1000"):
        plan(published, resolution="1000")
