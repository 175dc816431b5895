"""The trained network is the served one, its losses are those that are meant, and it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.model.demo.detection.test_scenes import ICONS
from vimserve.model.config import UPerNetConfig, VimConfig
from vimserve.model.demo.detection.scenes import Batch, make_scene
from vimserve.model.demo.detection.train import Criterion, make_optimizers
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.training.cascade import CascadeNetwork
from vimserve.model.training.detection import anchor_losses, mask_targets
from vimserve.model.training.optimization import descend
from vimserve.model.training.proposals import Objects
from vimserve.model.training.upernet import SegmentationNetwork

CONFIG = CascadeConfig(
    VimConfig(width=32, depth=4, states=8, grid=(4, 4)), channels=16, box_width=24, num_classes=20
)


def batch_of(count: int, side: int) -> Batch:
    rng = np.random.default_rng(0)
    made = [make_scene(rng, ICONS, (side, side), difficulty=0.0) for _ in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in made]))
    objects = torch.from_numpy(np.stack([scene.objects for scene in made]))
    labels = [torch.from_numpy(scene.labels) for scene in made]
    return Batch(pixels.permute(0, 3, 1, 2), objects, labels)


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """A training of one process."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_steps_lower_the_losses(alone: Any) -> None:
    torch.manual_seed(0)
    network, criterion = CascadeNetwork(CONFIG), Criterion(CONFIG.channels)
    optimizers = make_optimizers(network, criterion)
    batch = batch_of(2, 128)
    figures = []
    for _ in range(30):
        outcome = criterion(network, batch)
        descend(outcome.loss, optimizers, 1.0, network, criterion)
        figures.append(outcome.figures)
    first, *_, last = figures
    assert sum(last.values()) < 0.7 * sum(first.values())
    for name in ("anchors", "moves", "masks", "classes0", "classes2", "places"):
        assert last[name] < 0.9 * first[name], name


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network, criterion = CascadeNetwork(CONFIG), Criterion(CONFIG.channels)
    criterion(network, batch_of(2, 256)).loss.backward()
    for module in (network, criterion):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_backbone_starts_from_the_segmenter() -> None:
    torch.manual_seed(0)
    assert isinstance(CONFIG.backbone, VimConfig)
    segmenter = SegmentationNetwork(UPerNetConfig(CONFIG.backbone, (0, 1, 2, 3), 8, 3))
    network = CascadeNetwork(CONFIG)
    network.start_from_segmenter(segmenter.state_dict())
    start = segmenter.state_dict()
    for name, tensor in network.backbone.net.state_dict().items():
        assert torch.equal(tensor, start[f"backbone.{name}"]), name


def some_objects(boxes: Tensor) -> Objects:
    return Objects(boxes, torch.arange(len(boxes)), torch.zeros(len(boxes), 1, 1).bool())


def test_anchors_that_know_everything_lose_nothing() -> None:
    torch.manual_seed(0)
    places = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    objects = [some_objects(torch.tensor([[20.0, 0, 31, 10]]))]
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 1] = torch.tensor([0.05, 0, np.log(1.1), 0])
    right = torch.tensor([[-30.0, 30, -30]])
    losses = anchor_losses(
        [(right[:, :2], deltas[:, :2]), (right[:, 2:], deltas[:, 2:])], places, objects
    )
    assert losses["anchors"] == pytest.approx(0, abs=1e-6)
    assert losses["moves"] == pytest.approx(0, abs=1e-6)
    wrong = anchor_losses([(-right, deltas * 0)], places, objects)
    assert wrong["anchors"] == pytest.approx(30)
    # Both deltas of one anchor, by all three.
    assert wrong["moves"] == pytest.approx((0.05 + np.log(1.1)) / 3, abs=1e-6)


def test_mask_targets_are_the_masks_within_the_boxes() -> None:
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[1, 10:38, 20:34] = True
    boxes = torch.tensor([[20.0, 10, 48, 38], [0, 0, 28, 28]])
    whole, none = mask_targets(masks, boxes, torch.tensor([1, 0]))
    assert whole[:, :14].min() == 1
    assert whole[:, 14:].max() == 0
    assert none.max() == 0
