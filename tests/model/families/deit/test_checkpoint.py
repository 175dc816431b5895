import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.checkpoints import assert_refused, published, state_of
from vimserve.model import catalog
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.deit.checkpoint import infer_deit_config
from vimserve.model.families.deit.config import DEIT_BASE_384, DEIT_TINY, DeiTConfig
from vimserve.model.families.deit.model import DeiT

NANO = DeiTConfig(width=64, depth=2, heads=1, num_classes=10, grid=(4, 4))


@pytest.mark.parametrize(
    "config",
    [
        NANO,
        DEIT_TINY,
        DEIT_BASE_384,
        dataclasses.replace(NANO, width=128, heads=2, mlp_ratio=2, patch_size=8, depth=11),
    ],
    ids=str,
)
def test_the_architecture_is_read_off_the_tensors(config: DeiTConfig) -> None:
    with torch.device("meta"):
        state = DeiT(config).state_dict()
    assert infer_deit_config(state) == config


def test_what_tensors_leave_open_can_be_said(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO, width=48, heads=3, attention="eager")
    path = published(tmp_path / "my.pth", state_of(config))

    spec = catalog.resolve(f"mine={path}?heads=3&attention=eager")

    assert spec.config == config
    assert (spec.family, spec.attention) == ("deit", "eager")
    with pytest.raises(CheckpointError, match=r"width 48 is no multiple of 64.*heads=N"):
        catalog.resolve(f"mine={path}")
    with pytest.raises(CheckpointError, match=r"48 must be a multiple of the heads \(5\)"):
        catalog.resolve(f"mine={path}?heads=5")


BARE = dataclasses.replace(NANO, depth=8, num_classes=0, class_token=False, class_position=False)


def backbone_state(config: DeiTConfig) -> dict[str, Tensor]:
    """As a head on top reads it: a classifier of no classes."""
    with torch.device("meta"):
        return DeiT(config).state_dict() | {"head.weight": torch.empty(0, 0)}


@pytest.mark.parametrize(
    "config",
    [
        BARE,
        dataclasses.replace(BARE, class_position=True),
        dataclasses.replace(BARE, rel_pos=(6, 5)),
        dataclasses.replace(BARE, rel_pos=(64, 64), window=14, class_position=True),
    ],
    ids=str,
)
def test_a_detectors_backbone_is_read_off_the_tensors(config: DeiTConfig) -> None:
    assert infer_deit_config(backbone_state(config)) == config


@pytest.mark.parametrize("rel_pos", [None, (6, 6)])
def test_a_detector_on_it_is_read_off_a_file(
    tmp_path: Path, rel_pos: tuple[int, int] | None
) -> None:
    backbone = dataclasses.replace(
        BARE, patch_size=16, class_position=True, window=3, rel_pos=rel_pos
    )
    config = CascadeConfig(backbone, channels=8, box_width=16, num_classes=3)
    state = state_of(config)
    assert "backbone.net.blocks.0.attn.qkv.weight" in state
    assert ("backbone.net.blocks.7.attn.rel_pos_w" in state) == (rel_pos is not None)
    path = published(tmp_path / "my.pth", state)

    spec = catalog.resolve(f"mine={path}?window=3")

    assert (spec.family, spec.config) == ("deit-cascade", config)
    assert state.keys() == catalog.load(spec).state_dict().keys()


def test_windows_can_be_said_where_no_relative_positions_tell_them() -> None:
    config = dataclasses.replace(BARE, window=14)
    assert infer_deit_config(backbone_state(config), window=14) == config
    state = backbone_state(dataclasses.replace(BARE, window=7, rel_pos=(32, 32)))
    with pytest.raises(CheckpointError, match=r"window=14, but .* those of windows of 7"):
        infer_deit_config(state, window=14)
    state = backbone_state(dataclasses.replace(BARE, rel_pos=(32, 32)))
    with pytest.raises(CheckpointError, match=r"window=14, but .* of attention without windows"):
        infer_deit_config(state, window=14)


def without(name: str) -> Any:
    return lambda state: {key: state[key] for key in state if key != name}


def having(name: str, tensor: Tensor) -> Any:
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (having("dist_token", torch.zeros(1, 1, 64)), r"distilled .*dist_token.* not supported"),
        (without("head.weight"), "not a DeiT checkpoint: it has no tensor 'head.weight'"),
        (
            having("pos_embed", torch.zeros(1, 19, 64)),
            "pos_embed has 19 tokens, which is no square grid and a class token",
        ),
        (without("cls_token"), "a classifier of 10 classes reads a class token: there is none"),
        (without("blocks.1.attn.qkv.bias"), "missing tensors: blocks.1.attn.qkv.bias"),
        (having("blocks.0.ls1.gamma", torch.zeros(64)), "unknown tensors: blocks.0.ls1.gamma"),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    assert_refused(published(tmp_path / "my.pth", spoil(state_of(NANO))), message)
