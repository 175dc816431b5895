"""What is trained on kept features answers as the served model does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.closeness import assert_close
from vimserve.model import catalog
from vimserve.model.architecture import TokensConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import LinearSegmenter
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.heads.features import block_maps
from vimserve.model.heads.pixels.backbone import Kind, config_of, freeze, prefix_of
from vimserve.model.heads.pixels.linear import LinearHead, moments
from vimserve.model.heads.pixels.upernet import UPerNetHead
from vimserve.model.heads.saving import Trained
from vimserve.model.palette import make_palette
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform

CONFIGS: dict[str, TokensConfig] = {
    "vim": VimConfig(width=32, depth=4, states=8, num_classes=5, grid=(4, 4)),
    "head": VimConfig(width=32, depth=4, num_classes=5, grid=(4, 4), pooling="head", divide=False),
    "deit": DeiTConfig(width=32, depth=4, heads=4, num_classes=5, grid=(4, 4)),
}
TRANSFORM = Transform(resolution=64, fit="contain")


@pytest.fixture(params=CONFIGS)
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpec:
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    file = tmp_path / "backbone.safetensors"
    save_file(build(config).state_dict(), file)
    return ModelSpec("own", config, ("",) * 5, TRANSFORM, file)


def images() -> list[Tensor]:
    return [torch.randint(256, (3, *size), dtype=torch.uint8) for size in [(64, 96), (48, 48)]]


def randomise(head: nn.Module) -> None:
    """With weights and running statistics as no training starts from."""
    torch.manual_seed(1)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    head.eval()


def maps_of(model, batch: PackedBatch, blocks) -> list[Tensor]:
    """As they are kept, but in float32: ``[rows, columns, F]`` of each image."""
    return [one.permute(2, 3, 0, 1).flatten(2) for one in block_maps(model, batch, blocks)]


@pytest.mark.parametrize("kind", ["linear", "upernet"])
@torch.no_grad()
def test_a_served_file_answers_as_the_head_does(
    backbone: ModelSpec, kind: Kind, tmp_path: Path
) -> None:
    config = config_of(backbone, kind, channels=8, num_classes=3)
    frozen = freeze(backbone, config, "cpu", torch.float32)
    batch = PackedBatch.from_images(images())
    maps = maps_of(frozen.model, batch, config.out_indices)
    head: LinearHead | UPerNetHead
    if isinstance(config, LinearConfig):
        every = torch.cat([one.flatten(0, 1) for one in maps]).double()
        head = LinearHead(config, *moments(len(every), every.sum(0), every.square().sum(0)))
    else:
        head = UPerNetHead(config)
    randomise(head)
    file = tmp_path / "mine.safetensors"
    tensors = {**frozen.changed, **head.served()}
    Trained(
        config, ("a", "b", "c"), TRANSFORM, backbone, prefix_of(config), tensors, make_palette(3)
    ).save(file)
    spec = catalog.resolve(f"mine={file}")
    assert (spec.task, spec.config, spec.labels) == ("segment", config, ("a", "b", "c"))
    assert (spec.transform.resolution, spec.transform.fit) == (64, "contain")
    assert spec.palette == make_palette(3)
    served = catalog.load(spec)
    assert isinstance(served, LinearSegmenter if kind == "linear" else UPerNetSegmenter)
    for one, scores in zip(maps, served(batch), strict=True):
        assert_close("scores", scores, head(one[None])[0], atol=1e-4)


def test_moments_are_those_of_all_patches() -> None:
    features = torch.randn(50, 4, dtype=torch.float64) * 3 + 7
    mean, deviation = moments(50, features.sum(0), features.square().sum(0))
    assert_close("mean", mean, features.mean(0).float(), atol=1e-5)
    assert_close("deviation", deviation, features.std(0, correction=0).float(), atol=1e-5)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    config = config_of(ModelSpec("own", CONFIGS["vim"], (), TRANSFORM, Path("x")), "linear", 1, 2)
    assert isinstance(config, LinearConfig)
    head = LinearHead(config, torch.ones(128), torch.zeros(128))
    assert torch.isfinite(head(torch.ones(1, 2, 2, 128))).all()


def test_a_backbone_with_registers_has_no_upernet() -> None:
    config = VimConfig(width=32, depth=4, num_classes=5, pooling="registers", registers=2)
    spec = ModelSpec("own", config, (), TRANSFORM, Path("x"))
    with pytest.raises(ValueError, match="registers"):
        config_of(spec, "upernet", 8, 3)
    assert config_of(spec, "linear", 8, 3).backbone.class_tokens == 2


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match=r"demo-seg is a vim-upernet: a head is trained on"):
        config_of(catalog.resolve("demo-seg"), "linear", 8, 3)
    shallow = replace(CONFIGS["vim"], depth=3)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="reads 4 blocks, but the backbone has 3"):
        config_of(ModelSpec("own", shallow, (), TRANSFORM, Path("x")), "linear", 8, 3)
