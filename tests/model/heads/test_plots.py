from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vimserve.model.heads import plots


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def test_a_confusion_matrix_of_many_classes_shows_those_with_errors(tmp_path: Path) -> None:
    matrix = np.diag(np.full(100, 5))
    matrix[97, 3] = 4
    assert plots.confusion(tmp_path / "all.png", matrix[:3, :3], ["a", "b $x$", "c"]) == ""
    told = plots.confusion(tmp_path / "some.png", matrix, [f"class {i}" for i in range(100)])
    assert told == "60 classes with fewer errors are left out"
    assert size(tmp_path / "some.png") > size(tmp_path / "all.png")


def test_a_contact_sheet_has_a_row_for_each_few_pictures(tmp_path: Path) -> None:
    tile = (Image.new("RGB", (64, 48), "red"), "is $this\n90% that")
    plots.contact_sheet(tmp_path / "five.png", [tile] * 5)
    plots.contact_sheet(tmp_path / "six.png", [tile] * 6)
    (width, height), (same, twice) = size(tmp_path / "five.png"), size(tmp_path / "six.png")
    assert same == width
    assert twice == pytest.approx(2 * height, abs=2)
    with Image.open(tmp_path / "five.png") as sheet:
        assert (255, 0, 0) in {color for _, color in sheet.convert("RGB").getcolors(1 << 20) or []}


def test_a_learning_curve_is_drawn(tmp_path: Path) -> None:
    plots.learning_curve(tmp_path / "curve.png", [10, 20, 40], [100, 99, 98], [50, 60, 70])
    plots.learning_curve(tmp_path / "point.png", [3], [100], [50])
    assert size(tmp_path / "curve.png") == size(tmp_path / "point.png")


def test_labels_that_the_font_cannot_write_are_numbers() -> None:
    assert plots.legible("кот, ü", 3) == "кот, ü"
    assert plots.legible("りんご", 3) == "class 3"
    assert plots.legible("a" * 40, 3) == "a" * 23 + "…"
