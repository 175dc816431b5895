"""The weights and images of the golden outputs, which can be made again from names alone."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn


def make_weights(module: nn.Module) -> dict[str, Tensor]:
    """Make a state dict, drawing each tensor from a generator that its name seeds."""
    return {
        name: tensor
        if name.endswith("num_batches_tracked")
        else torch.from_numpy(_draw(name, tuple(tensor.shape)).astype(np.float32))
        for name, tensor in module.state_dict().items()
    }


def make_images(batch: int, height: int, width: int) -> list[Tensor]:
    """Make normalised images ``[3, height, width]``."""
    noise = np.random.RandomState(7).standard_normal((batch, 3, height, width))
    return list(torch.from_numpy(noise.astype(np.float32)))


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    parent, _, leaf = name.rpartition(".")
    if ".bn." in name or parent == "backbone.fpn1.1":
        return np.abs(1 + 0.1 * noise) if leaf in ("weight", "running_var") else 0.02 * noise
    parent = parent.rpartition(".")[2]
    if leaf in ("A_log", "A_b_log"):
        return np.log(np.arange(1, shape[-1] + 1)) + 0.1 * noise
    if leaf in ("D", "D_b") or (
        leaf == "weight" and parent in ("norm", "norm_f", "norm_neck", "norm1", "norm2")
    ):
        return 1 + 0.1 * noise
    if leaf == "bias":
        return -3 + 0.7 * noise if parent in ("dt_proj", "dt_proj_b") else 0.02 * noise
    if leaf in ("pos_embed", "pos_embed_cls", "cls_token", "cls_token_head", "cls_token_tail"):
        return 0.2 * noise
    if parent.startswith("conv1d"):
        return 0.4 * noise
    return noise / math.sqrt(math.prod(shape[1:]))
