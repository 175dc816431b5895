"""Runs of Vim's blocks in one kernel, where a device has one for them."""

import torch

from vimserve.kernels.dispatch import chosen
from vimserve.kernels.vim_blocks.weights import BlockWeights

__all__ = ["BlockWeights", "has_vim_blocks"]


def has_vim_blocks(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether ``kernels.vim_blocks.cpu`` is for models there; elsewhere the operations run apart.

    It is for float32 on CPUs, unless ``VIMSERVE_KERNELS`` names other kernels.
    """
    return device.type == "cpu" and dtype == torch.float32 and chosen("cpu") == "cpu"
