"""Models to measure whose published weights nobody needs to download."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from vimserve.model.catalog import load_model, resolve


def random_weights(name: str, folder: Path) -> Path:
    """A file in ``folder`` with random weights for a model of the catalog.

    Times and memory do not depend on the weights' values.
    """
    file = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    save_file(load_model(name, weights="random").state_dict(), file)
    return file


def embedded(name: str) -> bool:
    """Whether the model comes with weights of its own."""
    return isinstance(resolve(name).source, Path)


def served_as(name: str, folder: Path) -> str:
    """What ``--model`` calls the model with such weights, or with the embedded ones."""
    if embedded(name):
        return name
    attention = resolve(name).attention
    option = "" if attention == "none" else f"?attention={attention}"
    return f"{name}={random_weights(name, folder)}{option}"
