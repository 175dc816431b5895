"""The weights and images of the golden outputs, which can be made again from names alone."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

# Of a detector's output layers, whose weights are centred besides.
_OUTPUT_GAINS = {
    "cls_score": 6, "bbox_pred": 2, "objectness_logits": 2, "anchor_deltas": 1, "predictor": 6
}  # fmt: skip

_RESNETS_NORMS = ("bn1", "bn2", "bn3")


def make_weights(module: nn.Module) -> dict[str, Tensor]:
    """Make a state dict, drawing each tensor from a generator that its name seeds."""
    return {
        name: tensor
        if name.endswith("num_batches_tracked")
        else torch.from_numpy(_draw(name, tuple(tensor.shape)).astype(np.float32))
        for name, tensor in module.state_dict().items()
    }


def make_detector_weights(module: nn.Module, background_bias: float) -> dict[str, Tensor]:
    """Make a detector's state dict likewise; the background's logit gets ``background_bias``."""
    return {
        name: torch.from_numpy(
            _draw_of_detector(name, tuple(tensor.shape), background_bias).astype(np.float32)
        )
        for name, tensor in module.state_dict().items()
    }


def make_images(batch: int, height: int, width: int) -> list[Tensor]:
    """Make normalised images ``[3, height, width]``."""
    noise = np.random.RandomState(7).standard_normal((batch, 3, height, width))
    return list(torch.from_numpy(noise.astype(np.float32)))


def make_pictures(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Make pictures of (height, width), uint8 ``[height, width, 3]``, of coarse and fine noise."""
    pictures = []
    for i, (height, width) in enumerate(sizes):
        random = np.random.RandomState(7 + i)
        coarse = random.standard_normal((-(-height // 32), -(-width // 32), 3))
        coarse = coarse.repeat(32, 0).repeat(32, 1)[:height, :width]
        fine = random.standard_normal((height, width, 3))
        pictures.append(np.clip(np.rint(127.5 + 50 * coarse + 25 * fine), 0, 255).astype(np.uint8))
    return pictures


def _draw_of_detector(name: str, shape: tuple[int, ...], background_bias: float) -> np.ndarray:
    parent, _, leaf = name.rpartition(".")
    parent = parent.rpartition(".")[2]
    if leaf == "weight" and len(shape) == 1:  # every norm
        return 1 + 0.1 * _noise(name, shape)
    drawn = _draw(name, shape)
    if leaf == "weight" and parent in _OUTPUT_GAINS:
        return _OUTPUT_GAINS[parent] * (drawn - drawn.mean(1, keepdims=True))
    if name.endswith("cls_score.bias"):
        drawn[-1] += background_bias
    return drawn


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = _noise(name, shape)
    parent, _, leaf = name.rpartition(".")
    of_norm = ".bn." in name or parent.endswith((".downsample.1", *_RESNETS_NORMS))
    if of_norm or parent == "backbone.fpn1.1":
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
