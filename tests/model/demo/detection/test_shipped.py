"""The shipped detector, its labels, its card and its samples belong together."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vimserve.model import catalog
from vimserve.model.demo.detection.evaluate import find, table
from vimserve.model.demo.detection.samples import SAMPLES, SURE
from vimserve.model.demo.detection.scenes import CLASSES
from vimserve.model.demo.detection.train import CONFIG

FOLDER = Path(catalog.__file__).parent / "demo" / "detection"
CARD = (FOLDER / "README.md").read_text()


def test_the_file_is_the_configuration_that_is_trained() -> None:
    spec = catalog.resolve("demo-det")
    assert spec.config == CONFIG
    assert spec.labels == CLASSES
    assert f"{spec.parameters:,} parameters" in CARD


def test_the_whole_picture_is_seen_at_its_own_size() -> None:
    transform = catalog.resolve("demo-det").transform
    assert transform.output_size(500, 1248) == (496, 1248)
    assert transform.picture_size(500, 1248) == (496, 1248)


def test_the_files_are_small() -> None:
    assert (FOLDER / "demo-det.safetensors").stat().st_size <= 8 * 1024**2
    assert sum(file.stat().st_size for file in (FOLDER / "samples").iterdir()) <= 1.5 * 1024**2


@pytest.mark.parametrize("series", ["own size", "reduced"])
def test_the_card_quotes_the_measured_accuracy(series: str) -> None:
    assert table(json.loads((FOLDER / "accuracy.json").read_text()), series) in CARD


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file)
def test_more_pixels_find_more(sample) -> None:
    detector = catalog.load_detector("demo-det")
    with Image.open(FOLDER / "samples" / sample.file) as scene:
        scene.load()
    assert scene.size == (1248, 1248)
    for resolution, expected in sample.found.items():
        found = find(detector, scene, resolution)
        names = sorted(CLASSES[label] for label in found.classes[found.scores > SURE])
        assert names == sorted(expected)
    assert len(sample.found[1248]) > len(sample.found[224])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file)
@pytest.mark.parametrize("resolution", [224, 1248])
def test_samples_have_overlays(sample, resolution: int) -> None:
    name = sample.file.replace(".jpg", f"-overlay-{resolution}.jpg")
    with Image.open(FOLDER / "samples" / name) as page:
        assert page.width == 1248
