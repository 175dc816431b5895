"""Detections are rated by COCO's tool, whatever size the model saw them at."""

import numpy as np
import pytest
import torch

from tests.model.demo.detection.test_scenes import ICONS
from vimserve.model.config import VimConfig
from vimserve.model.demo.detection import evaluate
from vimserve.model.demo.detection.evaluate import answers, find, precision, table, truths
from vimserve.model.demo.detection.scenes import Scene, make_scene, to_find
from vimserve.model.detections import Detections
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.model import CascadeDetector

SIDE = 256


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [make_scene(rng, ICONS, (SIDE, SIDE), difficulty=0.0) for _ in range(4)]


def perfect(scene: Scene) -> Detections:
    """All objects, each with a mask that fills its box."""
    objects = to_find(torch.from_numpy(scene.objects), torch.from_numpy(scene.labels))
    count = len(scene.labels)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    masks = np.ones((count, 28, 28), np.float32)
    return Detections(objects.boxes.numpy(), scores, scene.labels, masks)


def rated(made: list[Scene], found: list[Detections]) -> dict[str, dict[str, float | None]]:
    known, records = [], []
    for image, (scene, detections) in enumerate(zip(made, found, strict=True)):
        known += truths(scene, image)
        records += answers(detections, image, (SIDE, SIDE))
    return precision(known, records, [(SIDE, SIDE)] * len(made))


def test_the_objects_themselves_are_rated_100(made: list[Scene]) -> None:
    ratings = rated(made, [perfect(scene) for scene in made])
    assert ratings["box"]["ap"] == ratings["box"]["ap50"] == 100
    mask = ratings["mask"]["ap50"]
    assert mask is not None
    assert mask > 80  # the icons are rectangles, most of them upright and whole


def test_boxes_that_are_somewhat_off_are_rated_by_how_much(made: list[Scene]) -> None:
    shifted = []
    for scene in made:
        found = perfect(scene)
        width = found.boxes[:, 2:3] - found.boxes[:, :1]
        boxes = found.boxes + width * np.array([0.25, 0, 0.25, 0], np.float32)
        shifted.append(Detections(boxes, found.scores, found.classes, found.masks))
    # All overlap by 0.6, which three of COCO's ten thresholds ask for at most.
    ratings = rated(made, shifted)["box"]
    assert ratings["ap50"] == 100
    assert ratings["ap"] == pytest.approx(30, abs=10.1)


def test_other_classes_are_rated_nothing(made: list[Scene]) -> None:
    wrong = []
    for scene in made:
        found = perfect(scene)
        wrong.append(Detections(found.boxes, found.scores, (found.classes + 1) % 20, found.masks))
    ap = rated(made[:1], wrong[:1])["box"]["ap"]
    assert ap == 0


def test_boxes_are_in_pixels_of_the_picture_whatever_the_model_sees(
    made: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = CascadeConfig(
        VimConfig(width=32, depth=2, states=8, grid=(4, 4)), 16, 24, num_classes=20
    )
    model = CascadeDetector(config).eval()
    seen = []

    def answer(batch, wanted):
        seen.append((batch.grids, wanted[0].size))
        return original(batch, wanted)

    original = model.answer
    monkeypatch.setattr(model, "answer", answer)
    for resolution in (None, 64):
        found = find(model, made[0].image, resolution)
        assert found.boxes.max() > SIDE / 2
        assert found.boxes.max() <= SIDE
    assert seen == [(((16, 16),), (256, 256)), (((4, 4),), (64, 64))]


def test_the_table() -> None:
    figures = {"ap": 12.34, "ap50": 20.0, "small": None, "medium": 3.0, "large": 100.0}
    cell = {"box": figures, "mask": figures, "scenes": 2, "objects": 9}
    rows = table({"seen": {"own size": {"256": cell}}}, "own size").splitlines()
    assert rows[0] == "|  |  | 256 pixels |"
    assert rows[2] == "| seen | box | 12.3 / 20.0 / – / 3.0 / 100.0 |"
    assert rows[3].startswith("| seen | mask | 12.3")
    assert list(evaluate.FIGURES) == list(figures)
