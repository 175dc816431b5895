"""Random weights, so that nobody needs to download the published ones to measure a model."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from vimserve.model.catalog import load_model, resolve


def random_weights(name: str, folder: Path) -> Path:
    """Write random weights for a model of the catalog to a file in ``folder``.

    Times and memory do not depend on the weights' values.

    Returns:
        The file.
    """
    file = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    save_file(load_model(name, weights="random").state_dict(), file)
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
    attention = resolve(name).attention
    option = "" if attention == "none" else f"?attention={attention}"
    return f"{name}={random_weights(name, folder)}{option}"
