import dataclasses
from pathlib import Path

import pytest
import torch

from tests.model.checkpoints import assert_refused, published, state_of
from vimserve.model import catalog
from vimserve.model.families.vim.checkpoint import infer_vim_config
from vimserve.model.families.vim.config import VIM_TINY_PLUS, VimConfig
from vimserve.model.families.vim.model import Vim

NANO = VimConfig(width=32, depth=2, num_classes=10, grid=(4, 4))


@pytest.mark.parametrize(
    "config",
    [
        *(dataclasses.replace(NANO, bidirectional=b) for b in ("none", "ssm", "ssm+conv")),
        *(dataclasses.replace(NANO, pooling=p) for p in ("double", "mean", "middle")),
        dataclasses.replace(NANO, width=48, depth=6, states=8, grid=(14, 14), num_classes=3),
        VIM_TINY_PLUS,
    ],
    ids=str,
)
def test_the_architecture_is_read_off_the_tensors(config: VimConfig) -> None:
    with torch.device("meta"):
        state = Vim(config).state_dict()
    assert infer_vim_config(state) == config


def test_what_tensors_leave_open_can_be_said(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO, bidirectional="layer", pooling="max", stride=8, grid=(6, 6))
    path = published(tmp_path / "my.pth", state_of(config))

    spec = catalog.resolve(f"mine={path}?bidirectional=layer&pooling=max&stride=8")

    assert spec.config == config
    catalog.load(spec)


def test_rotary_embeddings_are_refused(tmp_path: Path) -> None:
    state = state_of(NANO) | {"rope.freqs_cos": torch.zeros(16, 32)}
    assert_refused(published(tmp_path / "my.pth", state), "RoPE")
