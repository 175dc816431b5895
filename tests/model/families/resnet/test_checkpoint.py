"""ResNet files as torchvision, timm and training scripts write them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused, state_of
from tests.model.families.resnet.small import SMALL, made_weights
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families import build
from vimserve.model.families.resnet.checkpoint import infer_resnet_config
from vimserve.model.families.resnet.config import ResNetConfig

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    return made_weights(build(SMALL))


def saved(path: Path, state: State) -> Path:
    """As torchvision publishes its weights: the state dict alone."""
    torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["torchvision", "without counters", "safetensors", "wrapped"])
def test_a_file_is_recognised_and_gives_the_model_s_answers(
    tmp_path: Path, state: State, form: str
) -> None:
    path = tmp_path / "resnet.pth"
    without = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    if form == "safetensors":
        path = tmp_path / "resnet.safetensors"
        save_file(state, path)
    elif form == "wrapped":
        torch.save({"state_dict": {f"module.{k}": t for k, t in state.items()}, "epoch": 3}, path)
    else:
        saved(path, without if form == "without counters" else state)
    model = build(SMALL).eval()
    model.load_state_dict(state)
    batch = PackedBatch.from_images([torch.randn(3, 48, 64)])

    spec = catalog.resolve(f"mine={path}")

    assert spec.config == SMALL
    assert (spec.family, spec.task, spec.attention) == ("resnet", "classify", "none")
    assert spec.labels == tuple(f"class {i}" for i in range(5))
    assert (spec.transform.resolution, spec.transform.filter) == (224, "bilinear")
    wanted = [(48, 64)]
    loaded = catalog.load(spec).answer(batch, wanted).outputs[0]
    assert_close("scores", loaded, model.answer(batch, wanted).outputs[0], atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        ResNetConfig(blocks=(3, 8, 36, 3), width=8, inner=8, num_classes=21),
        dataclasses.replace(SMALL, inner=16),
        dataclasses.replace(SMALL, deep_stem=True),
    ],
    ids=["152 layers", "wide", "deep stem"],
)
def test_depth_width_and_classes_are_read_off_the_tensors(config: ResNetConfig) -> None:
    with torch.device("meta"):
        state = build(config).state_dict()
    assert infer_resnet_config(state) == config


def without(name: str) -> Any:
    return lambda state: {key: state[key] for key in state if key != name}


def basic(state: State) -> State:
    """Blocks of two convolutions, as in ResNet-18 and -34."""
    return {name: tensor for name, tensor in state.items() if "conv3" not in name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("layer2.1.bn3.running_mean"), "missing tensors: layer2.1.bn3.running_mean"),
        (without("layer1.0.downsample.0.weight"), "missing tensors: layer1.0.downsample.0.weight"),
        (without("fc.weight"), "not a ResNet checkpoint: it has no tensor 'fc.weight'"),
        (without("conv1.weight"), "it has no tensor 'conv1.weight'"),
        (without("layer4.0.conv1.weight"), "it has no tensor 'layer4.0.conv1.weight'"),
        (
            lambda state: state | {"layer1.0.se.fc1.weight": torch.zeros(1)},
            "unknown tensors: layer1.0.se.fc1.weight",
        ),
        (
            lambda state: state | {"layer3.2.conv1.weight": torch.zeros(1)},
            "unknown tensors: layer3.2.conv1.weight",
        ),
        (
            lambda state: state | {"layer4.0.conv2.weight": torch.zeros(64, 64, 5, 5)},
            r"layer4.0.conv2.weight \[64, 64, 5, 5\] instead of \[64, 64, 3, 3\]",
        ),
        (lambda state: state | {"conv1.weight": torch.zeros(8)}, "have other dimensions"),
        (
            lambda state: state | {"conv1.weight": torch.zeros(4, 3, 7, 7)},
            "its first stage has 32 channels, not 4 times the 4 of its stem",
        ),
        (basic, r"a ResNet of basic blocks \(18 or 34 layers\) is not served"),
        (
            lambda state: state | {"layer1.0.conv2.weight": torch.zeros(128, 4, 3, 3)},
            "a ResNeXt is not served: its convolutions are in 32 groups",
        ),
        (
            lambda state: state | {"fc.weight": torch.zeros(5, 256, dtype=torch.int8)},
            "weights of int8 cannot be served",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, state: State, spoil: Any, message: str
) -> None:
    assert_refused(saved(tmp_path / "resnet.pth", spoil(state)), message)


def test_options_of_other_families_are_refused(tmp_path: Path, state: State) -> None:
    file = saved(tmp_path / "resnet.pth", state)
    with pytest.raises(ValueError, match="unknown option 'attention'"):
        catalog.resolve(f"mine={file}?attention=eager")


def test_the_catalog_s_are_as_published() -> None:
    counts = {"resnet-50": 25_557_032, "resnet-101": 44_549_160}
    for name, parameters in counts.items():
        first, second = catalog.resolve(name), catalog.resolve(f"{name}-v2")
        assert first.parameters == second.parameters == parameters
        assert first.labels[:2] == ("tench", "goldfish")
        # Torchvision resizes the shorter side to 256 for its first weights, 232 for its second.
        assert first.transform.decode_size(1000, 1500) == (256, 384)
        assert second.transform.decode_size(1000, 1500) == (232, 348)
        for spec in (first, second):
            assert spec.transform.output_size(1000, 1500) == (224, 224)
            assert spec.transform.filter == "bilinear"


def test_random_weights_classify() -> None:
    model = catalog.load_classifier("resnet-50", "random")
    assert model(PackedBatch.from_images([torch.zeros(3, 32, 48)])).shape == (1, 1000)


def test_a_self_supervised_file_has_no_classifier() -> None:
    with pytest.raises(CheckpointError, match=r"no tensor 'fc.weight'"):
        infer_resnet_config(state_of(SMALL.without_classifier()))
