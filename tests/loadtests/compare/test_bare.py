"""The bare model, here a small detector, in this process."""

import pytest
import torch

from vimserve.loadtests.compare import bare
from vimserve.loadtests.compare.results import Case
from vimserve.model import bench
from vimserve.model.families.cascade import rpn
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.deit.config import DeiTConfig

NANO = DeiTConfig(
    width=16, depth=4, heads=2, num_classes=0, grid=(4, 4), class_token=False,
    class_position=False, window=3,
)  # fmt: skip
MOST = 100  # masks of an image


@pytest.fixture
def detector(monkeypatch):
    torch.manual_seed(0)
    model = CascadeDetector(CascadeConfig(NANO, channels=8, box_width=8, num_classes=3)).eval()
    monkeypatch.setattr(bench, "load", lambda *_: model)
    bare.load("nano", "random", 1, "cpu")
    yield model
    bare._loaded.clear()


def test_the_heads_have_the_full_number_to_do_whatever_is_found(detector):
    found = bare.first_pass(Case(64, batch=2))
    assert (found.model, found.case, found.tokens) == ("nano", Case(64, batch=2), 16)
    assert (found.boxes, found.masks) == (rpn.MOST, MOST)
    turn = bare.turn(Case(64, batch=2), seconds=0.0)
    assert turn.count == 1
    assert turn.image_ms == pytest.approx(1e3 * turn.seconds / 2)


def test_a_backbone_alone_has_no_heads(detector, monkeypatch):
    monkeypatch.setattr(CascadeDetector, "detect", None)
    found = bare.first_pass(Case(64, backbone=True))
    assert (found.case, found.boxes, found.masks) == (Case(64, backbone=True), 0, 0)
    assert bare.turn(Case(64, backbone=True), seconds=0.0).image_ms > 0
