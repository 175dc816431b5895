"""A flood of proposals takes no more memory than what was measured of noise at start-up."""

from dataclasses import replace

import pytest
import torch

from tests.live_bytes import LiveBytes
from tests.server.detector import SPEC
from vimserve.model import catalog
from vimserve.model.config import VimConfig
from vimserve.model.detections import MOST, Detections, Selection
from vimserve.model.families import build
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.rpn import MOST as PROPOSALS
from vimserve.server.config import Config
from vimserve.server.engine import loading
from vimserve.server.engine.runner import Runner

CLASSES = 20
CONFIG = CascadeConfig(
    VimConfig(width=32, depth=1, grid=(14, 14)), channels=32, box_width=64, num_classes=CLASSES
)


@pytest.fixture(scope="module")
def measured():
    """The detector, and its memory model from what tensors hold."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        torch.manual_seed(0)
        model = build(CONFIG).eval()
        monkeypatch.setattr(catalog, "load", lambda *_: model)
        monkeypatch.setattr(loading, "PeakMeter", LiveBytes)
        spec = replace(SPEC, config=CONFIG, labels=tuple(map(str, range(CLASSES))))
        runner = Runner(spec, Config())
        runner.module.warm_up()
        yield runner, loading.measure(runner)


@pytest.fixture
def flooded(measured, monkeypatch):
    """The same with as many proposals as there can be, which no suppression has thinned out."""
    runner, memory = measured

    def propose(_levels, sizes):
        shift = torch.linspace(0, 0.5, PROPOSALS)[:, None]
        edges = torch.cat([shift, shift.flip(0), 1 - shift, 1 - shift.flip(0) / 2], 1)
        boxes = edges * sizes.flip(1).repeat(1, 2)[:, None]
        logits = torch.linspace(9, 1, PROPOSALS).expand(len(sizes), -1)
        return boxes, logits, torch.ones(len(sizes), dtype=torch.bool)

    monkeypatch.setattr(runner.module.proposal_generator, "forward", propose)
    return runner, memory


def taken(runner, images):
    with LiveBytes() as meter:
        outputs = runner.run(images)
    return meter.bytes, outputs


@pytest.mark.parametrize(("side", "images"), [(1248, 1), (224, 1), (224, 3), (64, 2), (32, 3)])
def test_it_stays_below_the_prediction(flooded, side, images):
    runner, memory = flooded
    image = runner.noise(side)
    num_bytes, outputs = taken(runner, [image] * images)
    assert len(outputs) == images
    found = Detections.unpack(outputs[0])
    assert len(found.scores) > 100
    assert found.masks is not None
    assert num_bytes <= memory.predict([image.tokens] * images)


def test_the_second_stage_is_not_counted_by_pixels(measured):
    """It is what the smallest image takes, too, so that the prediction for one is not far off."""
    runner, memory = measured
    smallest = runner.noise(32)
    num_bytes, _ = taken(runner, [smallest])
    assert memory.base + memory.per_image > 1000 * memory.per_token
    assert memory.per_image >= MOST * 28**2 * 4
    assert num_bytes > memory.predict([smallest.tokens]) / 5


def test_a_batch_of_many_small_images_is_limited_by_their_memory(measured):
    _, memory = measured
    available = memory.predict([4] * 10)
    budget = loading.make_budget(memory, available, 8192)
    assert budget.memory_bytes is not None
    assert budget.memory_bytes // memory.cost(4) == 10


def test_the_smallest_picture_has_every_level(measured):
    """A probe of a server's health runs it."""
    runner, _ = measured
    assert runner.smallest().size == (32, 32)
    (rows,) = runner.run([runner.smallest()])
    assert len(rows) == Selection((32, 32)).most
