"""Scenes have the right classes, the trained network is the served one, and it learns."""

import multiprocessing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image, ImageDraw
from torch import Tensor

from tests.closeness import assert_close
from vimserve.model.batch import PackedBatch
from vimserve.model.config import UPerNetConfig, VimConfig
from vimserve.model.demo.icons import LABELS, Icon, by_class, cut_out
from vimserve.model.demo.segmentation.evaluate import summary
from vimserve.model.demo.segmentation.scenes import CLASSES, STAGES, Batch, draw_batch, make_scene
from vimserve.model.demo.segmentation.train import Criterion, make_optimizers
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.mask_files import count_pixels
from vimserve.model.training.batches import Batches, normalize
from vimserve.model.training.class_shares import class_shares
from vimserve.model.training.optimization import descend
from vimserve.model.training.upernet import SegmentationNetwork
from vimserve.model.training.vim import Network

CONFIG = UPerNetConfig(
    VimConfig(width=32, depth=4, states=8, grid=(4, 4)), (0, 1, 2, 3), channels=16, num_classes=21
)


def icon(label: int, color: str) -> Icon:
    picture = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(picture).rectangle((50, 20, 150, 180), fill=color)
    return Icon(label, "drawn", color, cut_out(picture))


ICONS = [icon(label, color) for label in range(len(LABELS)) for color in ("red", "blue")]


def test_the_classes_are_the_background_and_the_labels() -> None:
    assert ("background", *LABELS) == CLASSES


@pytest.mark.parametrize("size", [(128, 128), (96, 320)])
def test_a_seed_decides_a_scene(size: tuple[int, int]) -> None:
    first, again, other = (
        make_scene(np.random.default_rng(seed), by_class(ICONS), size) for seed in (1, 1, 2)
    )
    assert first.image.size == (size[1], size[0])
    assert first.classes.shape == size
    assert first.image.tobytes() == again.image.tobytes()
    assert (first.classes == again.classes).all()
    assert first.image.tobytes() != other.image.tobytes()


def test_every_class_comes_and_the_background_is_in_every_scene() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        classes = make_scene(rng, by_class(ICONS), (96, 96)).classes
        seen |= set(np.unique(classes).tolist())
        assert (classes == 0).any()
    assert seen == set(range(len(CLASSES)))


def test_a_pixel_has_the_class_of_what_it_shows() -> None:
    red = [[icon(label, "red")] for label in range(len(LABELS))]
    for seed in range(6):
        scene = make_scene(np.random.default_rng(seed), red, (128, 128), difficulty=0.0)
        inside = np.asarray(scene.image)[scene.classes > 0]
        np.testing.assert_allclose(inside.mean(0), [255, 0, 0], atol=12)


def test_batches_are_of_at_least_two_scenes_of_one_size() -> None:
    progress = multiprocessing.Value("d", 0.2)
    draw = partial(draw_batch, by_class(ICONS), 64)
    for batch in islice(Batches(draw, STAGES, progress, seed=0), 4):
        count, _, height, width = batch.pixels.shape
        assert count >= 2
        assert batch.classes.shape == (count, height, width)  # type: ignore[attr-defined]
        assert batch.pixels.dtype == batch.classes.dtype == torch.uint8  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (80, 32)])
def test_training_and_serving_agree(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(CONFIG)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    served = UPerNetSegmenter.of(CONFIG).eval()
    served.load_state_dict(network.state_dict(), strict=True)
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = network.eval()(images)
    for image, scores in zip(images, expected, strict=True):
        assert_close("scores", served(PackedBatch.from_images([image]))[0], scores, atol=1e-5)


def test_the_backbone_starts_from_the_classifier() -> None:
    torch.manual_seed(0)
    classifier = Network(VimConfig(width=32, depth=4, states=8, num_classes=5, grid=(4, 4)))
    network = SegmentationNetwork(CONFIG)
    network.start_from_classifier(classifier.state_dict())
    state, start = network.backbone.state_dict(), classifier.state_dict()
    name = "layers.3.mixer.out_proj.weight"
    assert torch.equal(state[name], start[name])
    without_class_token = torch.cat((start["pos_embed"][:, :8], start["pos_embed"][:, 9:]), 1)
    assert torch.equal(state["pos_embed"], without_class_token)


def test_class_shares() -> None:
    classes = torch.zeros(1, 4, 8, dtype=torch.uint8)
    classes[0, :2, :4] = 2
    classes[0, :, 4:] = 1
    shares = class_shares(classes, 3)
    assert shares.shape == (1, 3, 1, 2)
    assert shares[0, :, 0].T.tolist() == [[0.5, 0, 0.5], [0, 1, 0]]


@pytest.fixture
def alone(tmp_path: Path) -> Any:
    """A training of one process."""
    dist.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_steps_lower_the_loss(alone: Any) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(CONFIG)
    criterion = Criterion()
    optimizers = make_optimizers(network, criterion)
    rng = np.random.default_rng(0)
    made = [make_scene(rng, by_class(ICONS), (96, 96), difficulty=0.0) for _ in range(4)]
    pixels = torch.from_numpy(np.stack([np.asarray(scene.image) for scene in made]))
    classes = torch.from_numpy(np.stack([scene.classes for scene in made]))
    batch = Batch(pixels.permute(0, 3, 1, 2), classes)
    assert normalize(batch.pixels).dtype == torch.float32
    losses = []
    for _ in range(20):
        outcome = criterion(network, batch)
        descend(outcome.loss, optimizers, 1.0, network, criterion)
        losses.append(outcome.figures["loss"])
    first, *_, last = losses
    assert last < 0.6 * first


def test_every_parameter_in_use_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(CONFIG)
    scores: Tensor = network(torch.randn(2, 3, 96, 64))
    scores.square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_measures() -> None:
    truth = np.array([[0, 0, 1, 2]], np.uint8)
    seen = np.array([[0, 1, 1, 0]], np.uint8)
    figures = summary(count_pixels(truth, seen, 3))
    # Class 0: 1 of 3, class 1: 1 of 2, class 2: 0 of 1; the others do not occur.
    assert figures == {"miou": round(100 * (1 / 3 + 1 / 2) / 3, 1), "pixel_accuracy": 50.0}
