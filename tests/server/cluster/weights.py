"""Weights for replicas that start in other processes: small, and with an answer that is known."""

import torch

from vimserve.model.config import VimConfig
from vimserve.model.families.vim.model import Vim


def write(path, label):
    """A model that sees the same class in every picture."""
    model = Vim(VimConfig(width=64, depth=1, num_classes=3, grid=(4, 4)))
    state = model.state_dict()
    state["head.weight"].zero_()
    state["head.bias"] = torch.eye(3)[label]
    torch.save({"model": state}, path)
