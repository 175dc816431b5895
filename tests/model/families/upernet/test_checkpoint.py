"""Segmentation checkpoints as MMSegmentation writes them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.closeness import assert_close
from tests.model.checkpoints import assert_refused, rope_tables
from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families import build
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.vim.config import Rope, VimConfig

VIM = UPerNetConfig(
    VimConfig(width=32, depth=8, states=8, grid=(4, 4)), (1, 3, 5, 7), channels=16, num_classes=5
)
DEIT = UPerNetConfig(
    DeiTConfig(width=64, depth=4, heads=1, grid=(4, 4)), (0, 1, 2, 3), channels=8, num_classes=3
)


def state_of(config: UPerNetConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = build(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as a training leaves them
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return model.state_dict()


def published(path: Path, state: dict[str, Tensor]) -> Path:
    """What ``mmcv.runner.save_checkpoint`` writes, with the head that only the training has."""
    auxiliary = {
        "auxiliary_head.conv_seg.weight": torch.zeros(5, 256, 1, 1),
        "auxiliary_head.convs.0.bn.running_var": torch.ones(256),
    }
    meta = {"mmcv_version": "1.4.0", "epoch": 127, "CLASSES": ("wall", "floor"), "iter": 60_000}
    torch.save({"meta": meta, "state_dict": state | auxiliary, "optimizer": {"state": {}}}, path)
    return path


@pytest.mark.parametrize("config", [VIM, DEIT], ids=["vim", "deit"])
def test_a_published_file_is_recognised_and_gives_the_model_s_answers(
    tmp_path: Path, config: UPerNetConfig
) -> None:
    state = state_of(config)
    model = build(config).eval()
    model.load_state_dict(state)
    batch = PackedBatch.from_images([torch.randn(3, 64, 96)])

    spec = catalog.resolve(f"mine={published(tmp_path / 'seg.pth', state)}")
    loaded = catalog.load(spec)

    assert spec.config == config
    assert (spec.family, spec.task) == (
        ("vim-upernet" if config is VIM else "deit-upernet"),
        "segment",
    )
    assert_close("scores", loaded(batch)[0], model(batch)[0], atol=1e-6)


def test_150_classes_have_ade20k_s_names_and_colours(tmp_path: Path) -> None:
    config = dataclasses.replace(VIM, num_classes=150)
    spec = catalog.resolve(f"mine={published(tmp_path / 'seg.pth', state_of(config))}")
    assert spec.labels[:3] == ("wall", "building", "sky")
    assert spec.palette is not None
    assert spec.palette[:2] == ((120, 120, 120), (180, 120, 120))
    assert (spec.transform.resolution, spec.transform.fit) == (None, "contain")


def test_other_classes_are_numbered_and_can_be_given_names_and_colours(tmp_path: Path) -> None:
    file = published(tmp_path / "seg.pth", state_of(VIM))
    spec = catalog.resolve(f"mine={file}")
    assert spec.labels == tuple(f"class {i}" for i in range(5))
    assert spec.palette is not None
    assert len(spec.palette) == 5

    both = tmp_path / "classes.json"
    colors = [[i, 2 * i, 3 * i] for i in range(5)]
    both.write_text(json.dumps({"labels": list("abcde"), "palette": colors}))
    spec = catalog.resolve(f"mine={file}?labels={both}&palette={both}")
    assert spec.labels == tuple("abcde")
    assert spec.palette == tuple(map(tuple, colors))


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ("", {}),
        ("?divide=no&rope=hidden", {"divide": False, "rope": Rope(14, residual=False)}),
        ("?family=videomamba", {"divide": False}),
    ],
)
def test_the_rotary_embedding_of_a_backbone_is_read(
    tmp_path: Path, options: str, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As the published configuration for segmentation has it."""
    caplog.set_level("INFO")
    of_backbone = VIM.backbone
    assert isinstance(of_backbone, VimConfig)
    backbone = dataclasses.replace(of_backbone, **{"rope": Rope(14)} | changes)
    config = dataclasses.replace(VIM, backbone=backbone)
    model = build(config).eval()
    model.load_state_dict(state_of(config))
    tables = {f"backbone.{name}": table for name, table in rope_tables(4, 32).items()}
    path = published(tmp_path / "seg.pth", state_of(config) | tables)
    batch = PackedBatch.from_images([torch.randn(3, 64, 96)])

    spec = catalog.resolve(f"mine={path}{options}")

    assert spec.config == config
    assert_close("scores", catalog.load(spec)(batch)[0], model(batch)[0], atol=1e-6)
    (line,) = caplog.messages
    assert "pooling" not in line
    assert ("divide=yes (as usual)" in line) == (not options)


def test_the_blocks_of_the_features_can_be_said(tmp_path: Path) -> None:
    file = published(tmp_path / "seg.pth", state_of(VIM))
    spec = catalog.resolve(f"mine={file}?out_indices=0,2,4,6")
    assert spec.config == dataclasses.replace(VIM, out_indices=(0, 2, 4, 6))
    catalog.load(spec)


def without(name: str) -> Any:
    return lambda state: {key: state[key] for key in state if key != name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("decode_head.bottleneck.conv.weight"), "no tensor 'decode_head.bottleneck.conv"),
        (without("backbone.fpn1.1.running_var"), "missing tensors: backbone.fpn1.1.running_var"),
        (without("backbone.patch_embed.proj.weight"), "no tensor 'patch_embed.proj.weight'"),
        (
            lambda state: state | {"decode_head.gate.weight": torch.zeros(1)},
            "unknown tensors: decode_head.gate",
        ),
        (
            lambda state: state | {"decode_head.conv_seg.weight": torch.zeros(300, 16, 1, 1)},
            "num_classes must be at most 256",
        ),
        (
            lambda state: state | {"decode_head.conv_seg.bias": torch.zeros(4)},
            r"other shapes: decode_head.conv_seg.bias \[4\] instead of \[5\]",
        ),
        (
            lambda state: state | {"backbone.pos_embed_cls": torch.zeros(1, 3, 32)},
            r"a backbone with registers \(Mamba-Reg\) is not served",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    assert_refused(published(tmp_path / "seg.pth", spoil(state_of(VIM))), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("out_indices=1,3,5", "out_indices must be 4 of the 8 blocks"),
        ("out_indices=1,3,5,8", "out_indices must be 4 of the 8 blocks"),
        ("out_indices=first", "out_indices='first'"),
        ("fit=crop", "fit=crop would leave pixels without a class"),
        ("pooling=mean", "unknown option 'pooling'"),
        ("palette=nowhere.json", "palette nowhere.json"),
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, options: str, message: str) -> None:
    file = published(tmp_path / "seg.pth", state_of(VIM))
    with pytest.raises(ValueError, match=message):
        catalog.resolve(f"mine={file}?{options}")


def test_a_palette_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    file, palette = published(tmp_path / "seg.pth", state_of(VIM)), tmp_path / "colours.json"
    palette.write_text("[[0, 0, 0], [255, 255, 255]]")
    with pytest.raises(ValueError, match="2 colours for 5 classes"):
        catalog.resolve(f"mine={file}?palette={palette}")


def test_a_catalog_name_without_published_weights_says_what_to_do() -> None:
    with pytest.raises(CheckpointError, match=r"NAME=FILE"):
        catalog.load_model("vim-tiny-upernet")


@pytest.mark.parametrize(
    ("name", "load"),
    [("demo", catalog.load_segmenter), ("demo-seg", catalog.load_classifier)],
)
def test_a_model_of_the_other_task_is_refused(name: str, load: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}' does not"):
        load(name)
