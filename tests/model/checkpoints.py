"""Checkpoint files as their authors publish them, and how a spoilt one is refused."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vimserve.model import catalog
from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families import build


def state_of(config: ModelConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build(config).state_dict()


def published(path: Path, state: dict[str, Tensor], **beside: Any) -> Path:
    """A ``.pth`` as the authors publish them: the training arguments ride along."""
    arguments = argparse.Namespace(model="vim_tiny", input_size=224, lr=5e-4)
    torch.save({"model": state, "optimizer": {"step": 1}, "args": arguments, **beside}, path)
    return path


def assert_refused(path: Path, message: str) -> None:
    """It cannot be served, and one line says which file that is and why."""
    with pytest.raises(CheckpointError, match=message) as caught:
        catalog.load(catalog.resolve(f"mine={path}"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
