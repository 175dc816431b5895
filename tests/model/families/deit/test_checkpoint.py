import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.checkpoints import assert_refused, published, state_of
from vimserve.model import catalog
from vimserve.model.checkpoint import CheckpointError
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
        (without("blocks.1.attn.qkv.bias"), "missing tensors: blocks.1.attn.qkv.bias"),
        (having("blocks.0.ls1.gamma", torch.zeros(64)), "unknown tensors: blocks.0.ls1.gamma"),
    ],
)
def test_what_cannot_be_served_is_refused_on_one_line(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    assert_refused(published(tmp_path / "my.pth", spoil(state_of(NANO))), message)
