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


def rope_tables(side: int, width: int, span: float = 14) -> dict[str, Tensor]:
    """The buffers of a published model with RoPE, by the published construction.

    Source: ``VisionRotaryEmbeddingFast`` in hustvl/Vim's ``vim/rope.py``.
    """
    rates = 1.0 / 10_000 ** (torch.arange(0, width // 2, 2).float() / (width // 2))
    angles = torch.outer(torch.arange(side) / side * span, rates).repeat_interleave(2, dim=1)
    rows = angles[:, None].expand(side, side, -1)
    cols = angles[None, :].expand(side, side, -1)
    table = torch.cat((rows, cols), dim=2).flatten(0, 1)
    return {"rope.freqs_cos": table.cos(), "rope.freqs_sin": table.sin()}


def published(
    path: Path, state: dict[str, Tensor], architecture: str = "vim_tiny", **beside: Any
) -> Path:
    """A ``.pth`` as the authors publish them: the training arguments ride along."""
    arguments = argparse.Namespace(model=architecture, input_size=224, lr=5e-4)
    torch.save({"model": state, "optimizer": {"step": 1}, "args": arguments, **beside}, path)
    return path


def assert_refused(path: Path, message: str) -> None:
    """It cannot be served, and one line says which file that is and why."""
    with pytest.raises(CheckpointError, match=message) as caught:
        catalog.load(catalog.resolve(f"mine={path}"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
