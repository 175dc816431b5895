"""UPerNet on a ResNet: another implementation's numbers, and MMSegmentation's files."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused
from tests.model.families.resnet.published import their_scores, their_segmenter
from tests.model.families.resnet.small import SMALL, UPERNET, made_weights
from tests.model.families.upernet.test_checkpoint import published, without
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.convolutional import ConvolutionalSegmenter

DEEP = dataclasses.replace(
    UPERNET, backbone=dataclasses.replace(SMALL, deep_stem=True, grid=(32, 32), num_classes=0)
)
SIZES = [(64, 64), (16, 16), (48, 80), (64, 64)]


def made(config: UPerNetConfig) -> ConvolutionalSegmenter:
    model = ConvolutionalSegmenter(config).eval()
    model.load_state_dict(made_weights(model))
    return model


@pytest.mark.parametrize("config", [UPERNET, DEEP], ids=["plain stem", "deep stem"])
def test_matches_another_implementation(config: UPerNetConfig) -> None:
    model = made(config)
    theirs = their_segmenter(config, model.state_dict())
    torch.manual_seed(0)
    images = [torch.randn(3, height, width) for height, width in SIZES]
    scores = model(PackedBatch.from_images(images))
    for size, image, own in zip(SIZES, images, scores, strict=True):
        assert own.shape == (7, size[0] // 4, size[1] // 4)
        with torch.inference_mode():
            (expected,) = their_scores(theirs, image[None].double())
        assert_close(f"scores {size}", own, expected, atol=1e-4)


def test_scenes_together_equal_the_same_alone() -> None:
    model = made(UPERNET)
    torch.manual_seed(0)
    images = [torch.randn(3, height, width) for height, width in SIZES]
    together = model(PackedBatch.from_images(images))
    for size, image, scores in zip(SIZES, images, together, strict=True):
        assert_close(str(size), scores, model(PackedBatch.from_images([image]))[0], atol=1e-5)
    maps = model.segment(PackedBatch.from_images(images))
    assert [tuple(classes.shape) for classes in maps] == SIZES


def test_a_published_file_is_recognised_and_gives_the_model_s_answers(tmp_path: Path) -> None:
    model = made(DEEP)
    file = published(tmp_path / "seg.pth", model.state_dict())
    batch = PackedBatch.from_images([torch.randn(3, 64, 96)])

    spec = catalog.resolve(f"mine={file}")

    assert spec.config == DEEP
    assert (spec.family, spec.task) == ("resnet-upernet", "segment")
    assert (spec.transform.resolution, spec.transform.fit) == (None, "contain")
    loaded = catalog.load(spec)
    assert isinstance(loaded, ConvolutionalSegmenter)
    assert_close("scores", loaded(batch)[0], model(batch)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("backbone.stem.4.weight"), "missing tensors: backbone.stem.4.weight"),
        (without("backbone.stem.6.weight"), "it has no tensor 'stem.6.weight'"),
        (without("decode_head.bottleneck.conv.weight"), "not a UPerNet checkpoint: it has no"),
        (
            without("decode_head.lateral_convs.1.bn.bias"),
            "missing tensors: decode_head.lateral_convs.1.bn.bias",
        ),
        (
            lambda state: state | {"backbone.fc.weight": torch.zeros(5, 256)},
            "unknown tensors: backbone.fc.weight",
        ),
        (
            lambda state: state | {"rpn_head.rpn_conv.weight": torch.zeros(1)},
            "an MMDetection detector is not served",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    state = made_weights(ConvolutionalSegmenter(DEEP))
    assert_refused(published(tmp_path / "seg.pth", spoil(state)), message)


def test_the_catalog_s_are_the_published_ones() -> None:
    for name, parameters in (("resnet-50-upernet", 64_117_750), ("resnet-101-upernet", 83_109_878)):
        spec = catalog.resolve(name)
        assert spec.parameters == parameters
        assert spec.labels[:2] == ("wall", "building")
        assert not spec.available


def test_without_a_file_it_says_where_the_weights_are() -> None:
    with pytest.raises(CheckpointError, match=r"download https://\S+8534de8d.pth and pass"):
        catalog.load_model("resnet-50-upernet")
