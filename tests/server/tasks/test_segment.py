import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vimserve.model.catalog import resolve
from vimserve.model.slide import Window
from vimserve.server.errors import ImageTooLarge, InvalidParameter
from vimserve.server.images.prepare import Measured, whole
from vimserve.server.tasks.segment import ClassMap, Segment

TASK = Segment()
SPEC = resolve("demo-seg")


class Picture:
    """An image of which only the size, and one colour, matters."""

    def __init__(self, height, width):
        self.size = (height, width)

    def picture(self, _transform):
        return Image.new("RGB", self.size[::-1], "teal")


def plan(**given):
    return TASK.plan(SPEC, TASK.ask(given), 1248)


def measured(image_size, size, views):
    picture: Any = Picture(*image_size)
    unused: Any = None
    return Measured(size, views, [1] * len(views), None, picture, unused, unused)


def test_the_whole_image_at_its_own_size_by_default():
    native = plan()
    assert native.views is whole
    assert native.transform.output_size(100, 208) == (96, 208)
    assert native.transform.output_size(2000, 1000) == (1248, 624)
    assert plan(resolution="512").transform.output_size(2000, 1000) == (512, 256)


def test_windows_of_a_side_bring_the_shorter_side_to_it():
    slide = plan(mode="slide", window="128")
    assert slide.transform.output_size(100, 400) == (128, 512)
    views = slide.views((128, 256))
    assert views[0] == Window(0, 0, 128, 128)
    assert all((view.height, view.width) == (128, 128) for view in views)
    assert views[-1].left + views[-1].width == 256


@pytest.mark.parametrize(
    ("given", "parameter", "limit"),
    [
        ({"window": 256}, "window", "slide"),
        ({"mode": "slide", "window": 100}, "window", 128),
        ({"mode": "slide", "window": 120}, "window", 128),
        ({"mode": "slide", "window": 2048}, "window", 1248),
        ({"resolution": "1249"}, "resolution", 1248),
        ({"fit": "crop"}, "fit", "'contain'"),
        ({"top_k": 3}, "top_k", None),
    ],
)
def test_what_cannot_be_asked(given, parameter, limit):
    with pytest.raises(InvalidParameter) as caught:
        plan(**given)
    assert (caught.value.parameter, caught.value.limit) == (parameter, limit)


def test_one_view_is_the_map_itself():
    classes = torch.randint(21, (30, 50), dtype=torch.uint8)
    result = plan().conclude(measured((30, 50), (32, 48), whole((32, 48))), [classes])
    assert (result.classes == classes.numpy()).all()


def test_scores_of_windows_are_averaged_where_they_overlap():
    cell = SPEC.config.stride // 4
    views = [Window(0, 0, 16, 32), Window(0, 16, 16, 32)]
    scores = torch.zeros(2, 21, 16 // cell, 32 // cell)
    scores[0, 3], scores[1, 5] = 1.0, 2.0  # where both are, class 5 has 1.0 and class 3 has 0.5
    joiner = plan(mode="slide").joiner(measured((16, 48), (16, 48), views))
    for of_window in scores:
        joiner.add(of_window)
    result = joiner.result()
    assert set(result.classes[:, :14].flat) == {3}
    assert set(result.classes[:, 18:].flat) == {5}


def test_a_row_of_windows_whose_scores_would_take_too_much_memory():
    slide = plan(mode="slide", window="512", resolution="native")
    with pytest.raises(ImageTooLarge, match="scores of 21 classes in a row of windows") as caught:
        slide.views((512, 200_000))
    assert caught.value.parameter == "window"
    assert caught.value.value == 129 * 50_000 * 22 * 4 > caught.value.limit
    assert len(slide.views((512, 180_000))) == 529


def test_scores_are_of_an_image_that_the_model_could_see_at_once():
    query = TASK.ask({"mode": "slide", "resolution": "native", "window": "512"})
    scored = TASK.scored_plan(SPEC, query, 1250)
    assert len(scored.views((1264, 1264))) == 16
    assert scored.joiner is None
    with pytest.raises(ImageTooLarge, match="longest side may have 1250 if scores are wanted"):
        scored.views((512, 1280))
    assert len(plan(mode="slide", resolution="native").views((512, 1280))) == 4


def test_pixels_of_the_classes_that_occur_the_largest_first():
    classes = np.array([[2, 2, 2], [0, 7, 7]], np.uint8)
    assert list(ClassMap(classes).pixels(9).items()) == [(2, 3), (7, 2), (0, 1)]


def test_the_command_line_prints_shares():
    classes = np.array([[12, 12, 12, 0]], np.uint8)
    lines = list(TASK.lines(SPEC, TASK.ask({}), ClassMap(classes)))
    assert lines == [f" 75.00%  {SPEC.labels[12]}", f" 25.00%  {SPEC.labels[0]}"]


def test_pictures():
    classes = np.zeros((40, 300), np.uint8)
    classes[:, 100:] = 4
    one = measured((40, 300), (48, 304), whole((48, 304)))
    png, page = (
        Image.open(io.BytesIO(TASK.file(SPEC, form, one, ClassMap(classes))))
        for form in ("png", "overlay")
    )
    assert (png.format, png.mode) == ("PNG", "P")
    assert (np.asarray(png) == classes).all()
    assert (page.format, page.width) == ("JPEG", 300)
    assert page.height > 40
