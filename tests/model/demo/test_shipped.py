"""The shipped checkpoint, its labels, its card and its samples belong together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.demo.evaluate import table
from vimserve.model.demo.icons import LABELS
from vimserve.model.demo.samples import SAMPLES

DEMO = Path(catalog.__file__).with_name("demo")


def predicted(file: str, resolution: int | None = None) -> str:
    spec = catalog.resolve("demo")
    transform = replace(spec.transform, resolution=resolution)
    with Image.open(DEMO / "samples" / file) as picture:
        image = transform(picture.convert("RGB"))
    with torch.inference_mode():
        logits = catalog.load_model("demo")(PackedBatch.from_images([image]))
    return spec.labels[int(logits.argmax())]


@pytest.mark.parametrize("file", [sample[0] for sample in SAMPLES])
def test_samples_are_recognised(file: str) -> None:
    assert predicted(file) == file.split("-")[0].split(".")[0]


def test_a_small_object_takes_all_the_pixels() -> None:
    assert predicted("fish-1248.jpg", 224) != "fish"


def test_labels_are_the_classes_of_the_training() -> None:
    assert catalog.resolve("demo").labels == LABELS


def test_the_file_is_small() -> None:
    assert (DEMO / "demo.safetensors").stat().st_size <= 8 * 1024**2
    assert sum(f.stat().st_size for f in (DEMO / "samples").iterdir()) <= 300 * 1024


def test_the_card_quotes_the_measured_accuracy() -> None:
    measured = json.loads((DEMO / "accuracy.json").read_text())
    assert table(measured) in (DEMO / "README.md").read_text()
