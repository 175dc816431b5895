"""The whole command, on a scene that is seen in several windows."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT
from tests.server.detector import SPEC, loadable
from vimserve.server.__main__ import main
from vimserve.server.commands.predict import answerers

rasterio = pytest.importorskip("rasterio")
SAMPLE = ROOT / "model" / "demo" / "detection" / "samples" / "objects-1.jpg"
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)


@pytest.fixture
def tiff(tmp_path):
    """A part of a sample, 192 pixels high and 320 wide, that lies in Austria."""
    with Image.open(SAMPLE) as sample:
        pixels = np.asarray(sample.convert("RGB").resize((320, 320)))[:192]
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=192, width=320, count=3, dtype="uint8",
        crs="EPSG:32633", transform=PLACE,
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture
def finder(monkeypatch):
    """A detector that finds what it is told, in every window."""
    monkeypatch.setattr(answerers, "resolve", {SPEC.name: SPEC}.get)
    with loadable(SPEC):
        yield SPEC.name


def test_objects(finder, tiff, tmp_path):
    """The same objects in all files, in degrees and in pixels."""
    flags = ["predict", "--task", "detect", "--model", finder, str(tiff)]
    flags += ["--window", "160", "--overlap", "64", "--score-threshold", "0.2"]
    assert main([*flags, "-o", str(tmp_path / "a.geojson")]) == 0
    assert main([*flags, "-o", str(tmp_path / "b.json"), "--masks", "none"]) == 0
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    dataset = json.loads((tmp_path / "b.json").read_text())
    assert dataset["images"] == [
        {"id": 1, "file_name": "scene.tif", "height": 192, "width": 320},
    ]
    assert not any("segmentation" in one for one in dataset["annotations"])
    assert len(features) > 6
    for feature, one in zip(features, dataset["annotations"], strict=True):
        assert feature["properties"]["index"] == one["category_id"]
        assert feature["properties"]["measurements"]["score"] == pytest.approx(one["score"], 1e-3)
        rings = feature["geometry"]["coordinates"][0]
        east, north = rasterio.warp.transform("EPSG:4326", "EPSG:32633", *np.array(rings[0]).T)
        columns, rows = ~PLACE @ np.array([east, north])
        left, top, width, height = one["bbox"]
        assert left - 1 <= columns.min() <= columns.max() <= left + width + 1
        assert top - 1 <= rows.min() <= rows.max() <= top + height + 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.geojson", "b.json", "scene.tif"]


def test_classes(tiff, tmp_path):
    flags = ["predict", "--task", "classify", str(tiff), "--window", "96", "--overlap", "0"]
    assert main([*flags, "-o", str(tmp_path / "a.tif")]) == 0
    assert main([*flags, "-o", str(tmp_path / "b.geojson"), "--top-k", "1"]) == 0
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.height, file.width, file.crs.to_epsg()) == (2, 4, 32633)
        assert file.res == (960, 960)
        pixels, names = file.read(), file.descriptions
    assert pixels.sum(axis=0) == pytest.approx(np.ones((2, 4)))
    features = json.loads((tmp_path / "b.geojson").read_text())["features"]
    likeliest = [one["properties"]["classification"]["name"] for one in features]
    assert likeliest == [names[i] for i in pixels.argmax(axis=0).reshape(-1)]


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("detect", ["-o", "a.tif"], "--output must end in .geojson, .json, or --format be one of"),
        ("classify", ["-o", "a.tif", "--top-k", "21"], "top_k must be from 1 to 20"),
        ("classify", ["-o", "a.tif", "--fit", "crop"], "--fit is not for --task classify of a"),
        ("detect", ["-o", "a.json", "--max-detections", "0"], "max_detections: "),
    ],
)
def test_what_is_refused(task, flags, message, tiff, capsys):
    assert main(["predict", "--task", task, str(tiff), "--overlap", "0", *flags]) == 1
    assert message in capsys.readouterr().err
