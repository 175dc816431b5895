"""``vimserve predict --task detect``."""

import json

import pytest
from PIL import Image

from tests.server.detector import BOXER, SPEC, loadable
from vimserve.server.__main__ import main
from vimserve.server.commands.predict import pictures


@pytest.fixture
def run(monkeypatch):
    """The command line with detectors that find what they are told."""
    specs = {spec.name: spec for spec in (SPEC, BOXER)}
    monkeypatch.setattr(pictures, "resolve", specs.get)

    def call(*arguments, model="finder"):
        return main(["predict", "--task", "detect", "--model", model, *map(str, arguments)])

    with loadable(SPEC, BOXER):
        yield call


def test_lines_and_files(run, picture, tmp_path, capsys):
    file = tmp_path / "a.png"
    picture(100, 200).save(file)
    assert run(file, "--score-threshold", "0.2", "--max-detections", "4") == 0
    assert capsys.readouterr().out.splitlines() == [
        str(file),
        "   90.00%  cat  50,50 to 150,100",
        "   60.00%  apple  20,10 to 80,40",
        "   30.00%  boat  0,0 to 40,30",
    ]
    assert run(file, "-o", tmp_path / "page.jpg") == 0
    with Image.open(tmp_path / "page.jpg") as page:
        assert (page.format, page.size) == ("JPEG", (240, 100))
    for form, suffix in (("coco", "json"), ("geojson", "geojson")):
        named = tmp_path / f"by-name.{suffix}"
        assert run(file, "-o", tmp_path / form, "--format", form) == 0
        assert run(file, "-o", named) == 0
        assert named.read_bytes() == (tmp_path / form).read_bytes()
    (cat, _) = json.loads((tmp_path / "coco").read_text())["annotations"]
    assert "segmentation" in cat
    assert json.loads((tmp_path / "geojson").read_text())["features"][0]["properties"]["pixels"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "png", "-o", "m.png"], "--format must be one of overlay, coco, geojson"),
        (["--score-threshold", "nan"], "score_threshold: must be a number from 0 to 1"),
        (["--max-detections", "301"], "max_detections: Input should be less than or equal to 300"),
        (["--mode", "slide"], "--mode is for --task segment"),
        (["--fit", "square", "--resolution", "100"], "resolution must be a multiple of 32"),
    ],
)
def test_wrong_parameters(run, flags, message, capsys):
    assert run("a.png", *flags) == 1
    assert message in capsys.readouterr().err


def test_no_masks_of_a_model_that_has_none(run, capsys):
    assert run("a.png", "--masks", "rle", model="boxer") == 1
    assert "'boxer' finds boxes only" in capsys.readouterr().err
