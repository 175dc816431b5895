"""The shipped segmenter, its labels, its card and its samples belong together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.demo.segmentation.evaluate import table
from vimserve.model.demo.segmentation.samples import SAMPLES
from vimserve.model.demo.segmentation.scenes import CLASSES
from vimserve.model.demo.segmentation.train import CONFIG

FOLDER = Path(catalog.__file__).parent / "demo" / "segmentation"
CARD = (FOLDER / "README.md").read_text()


def test_the_file_is_the_configuration_that_is_trained() -> None:
    spec = catalog.resolve("demo-seg")
    assert spec.config == CONFIG
    assert spec.labels == CLASSES
    assert f"{spec.parameters:,} parameters" in CARD


def test_the_files_are_small() -> None:
    assert (FOLDER / "demo-seg.safetensors").stat().st_size <= 12 * 1024**2
    assert sum(file.stat().st_size for file in (FOLDER / "samples").iterdir()) <= 1.5 * 1024**2


def test_the_card_quotes_the_measured_accuracy() -> None:
    assert table(json.loads((FOLDER / "accuracy.json").read_text())) in CARD


@pytest.mark.parametrize(("file", "objects"), [(name, found) for name, _, found in SAMPLES])
def test_samples_are_segmented(file: str, objects: set[str]) -> None:
    with Image.open(FOLDER / "samples" / file) as scene:
        pixels = torch.from_numpy(np.array(scene)).permute(2, 0, 1)
    assert pixels.shape == (3, 1248, 1248)
    (classes,) = catalog.load_segmenter("demo-seg").segment(PackedBatch.from_images([pixels]))
    background, *largest = classes.flatten().bincount().argsort(descending=True).tolist()
    assert background == 0
    assert {CLASSES[index] for index in largest[: len(objects)]} == objects


@pytest.mark.parametrize("file", [name for name, *_ in SAMPLES])
def test_samples_have_overlays(file: str) -> None:
    with Image.open(FOLDER / "samples" / file.replace(".jpg", "-overlay.jpg")) as page:
        assert page.width == 1248
        assert page.height > 1248
