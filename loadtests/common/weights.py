"""Random weights, so that nobody needs to download the published ones to measure a model."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.catalog import load_model, resolve
from vimserve.model.families.cascade.heads import STAGES
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.families.vim.rope_tables import make_tables


def random_weights(name: str, folder: Path) -> Path:
    """Write random weights for a model of the catalog to a file in ``folder``.

    Times and memory do not depend on the weights' values.

    Returns:
        The file.
    """
    file = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    model = load_model(name, weights="random")
    state = model.state_dict()
    if isinstance(model, CascadeDetector):
        _let_it_find(state)
    backbone = _backbone(model.config)
    if isinstance(backbone, VimConfig):
        (position,) = (tensor for tensor in state if tensor.endswith("pos_embed"))
        above = position.removesuffix("pos_embed")
        state |= {above + table: values for table, values in make_tables(backbone).items()}
    save_file(state, file)
    return file


def embedded(name: str) -> bool:
    """Whether the model's weights are part of this project."""
    return isinstance(resolve(name).source, Path)


def served_as(name: str, folder: Path) -> str:
    """The value of ``--model`` that serves a model with random weights, or with embedded ones.

    Random weights are written to a file in ``folder``.
    """
    if embedded(name):
        return name
    backbone = _backbone(resolve(name).config)
    options = ""
    if isinstance(backbone, DeiTConfig):
        options = f"?attention={backbone.attention}&window={backbone.window}"
    return f"{name}={random_weights(name, folder)}{options}"


def _backbone(config: ModelConfig) -> ModelConfig:
    """That of a segmenter or of a detector, or the model itself."""
    return getattr(config, "backbone", config)


def _let_it_find(state: dict[str, Tensor]) -> None:
    """Let a detector with random weights find something: its first class, which scores about half.

    Otherwise all classes would score alike, less than any threshold, and no mask would be made.
    """
    for stage in range(STAGES):
        bias = state[f"roi_heads.box_predictor.{stage}.cls_score.bias"]
        bias[0] += math.log(len(bias) - 1)
