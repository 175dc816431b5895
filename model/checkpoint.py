"""Published checkpoint files to state dicts and architectures, strictly."""

import argparse
import logging
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vimserve.model.config import (
    FEATURES,
    Attention,
    BackboneConfig,
    Bidirectional,
    DeiTConfig,
    Pooling,
    UPerNetConfig,
    VimConfig,
)

logger = logging.getLogger(__name__)

HEAD_WIDTH = 64
_NAMED_TENSORS = 4  # how many missing or unknown tensors an error lists


class CheckpointError(ValueError):
    """A checkpoint that cannot be served; the message says which file and why, on one line."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a published ``.pth``, mapped, not copied.

    A ``.pth`` may hold the state dict itself or hold it under ``model`` or ``state_dict``, beside
    an ``argparse.Namespace`` of training arguments; no other class is ever unpickled. The
    ``auxiliary_head`` of a segmentation checkpoint, of use in training alone, is left out.

    Raises:
        CheckpointError: if the file is missing, damaged, holds foreign classes or no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return _served(safetensors.torch.load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: refused: besides tensors it holds a pickled {foreign[1]}, "
                "which could run code; convert it to safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one") from error
    except (safetensors.SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({_first_sentence(error)})"
        ) from error
    if isinstance(content, dict):
        for key in ("model", "state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not content or not _all_tensors(content):
        raise CheckpointError(f"{path}: holds no state dict, nor one under 'model' or 'state_dict'")
    return _served(content)


def infer_vim_config(
    state: dict[str, Tensor],
    *,
    stride: int | None = None,
    bidirectional: Bidirectional | None = None,
    pooling: Pooling | None = None,
) -> VimConfig:
    """The architecture that a Vim state dict belongs to.

    Shapes leave three things open, which the arguments override. The *stride* of a square grid: an
    odd one such as 27 is taken for overlapping patches (stride 8 at 224 pixels), an even one for
    stride = patch. One-directional layers are taken for ``none``, not ``layer``. A class token is
    taken to stand in the ``middle``, not at the ``head``; without one, ``mean`` is pooled.

    Raises:
        CheckpointError: if the tensors are not a Vim's.
    """
    if any("rope" in name for name in state):
        raise CheckpointError("rotary position embeddings (RoPE) are not supported")
    try:
        embed, pos = state["patch_embed.proj.weight"], state["pos_embed"]
        rates, classes = state["layers.0.mixer.A_log"], len(state["head.weight"])
    except KeyError as error:
        raise CheckpointError(f"not a Vim checkpoint: it has no tensor {error}") from error
    if embed.ndim != 4 or pos.ndim != 3 or rates.ndim != 2:
        raise CheckpointError("not a Vim checkpoint: its embeddings have other dimensions")
    patch_size = embed.shape[2]
    if "cls_token_head" in state:
        pooling = pooling or "double"
    else:
        pooling = pooling or ("middle" if "cls_token" in state else "mean")
    if bidirectional is None:
        bidirectional = "none"
        if "layers.0.mixer.A_b_log" in state:
            bidirectional = "ssm+conv" if "layers.0.mixer.conv1d_b.weight" in state else "ssm"
    class_tokens = {"double": 2, "middle": 1, "head": 1}.get(pooling, 0)
    side = math.isqrt(pos.shape[1] - class_tokens)
    if side < 1 or side * side + class_tokens != pos.shape[1]:
        raise CheckpointError(
            f"pos_embed has {pos.shape[1]} tokens, which is no square grid and "
            f"{class_tokens} class token(s): pooling={pooling} does not fit"
        )
    if stride is None:
        stride = patch_size // 2 if side % 2 and side > 1 else patch_size
    try:
        return VimConfig(
            width=embed.shape[0],
            depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers.")),
            patch_size=patch_size,
            stride=stride,
            states=rates.shape[1],
            num_classes=classes,
            grid=(side, side),
            bidirectional=bidirectional,
            pooling=pooling,
        )
    except ValueError as error:
        raise CheckpointError(f"not a Vim that can be served: {error}") from error


def infer_deit_config(
    state: dict[str, Tensor], *, attention: Attention = "fused", heads: int | None = None
) -> DeiTConfig:
    """The architecture that a DeiT state dict with timm's names belongs to.

    Shapes leave two things open: how attention is computed, and the number of heads, by default
    one for every 64 channels, as in all published sizes.

    Raises:
        CheckpointError: if the tensors are not a DeiT's, or those of a distilled one.
    """
    if "dist_token" in state:
        raise CheckpointError("distilled DeiT checkpoints (with a dist_token) are not supported")
    try:
        embed, pos = state["patch_embed.proj.weight"], state["pos_embed"]
        hidden, classes = len(state["blocks.0.mlp.fc1.weight"]), len(state["head.weight"])
    except KeyError as error:
        raise CheckpointError(f"not a DeiT checkpoint: it has no tensor {error}") from error
    if embed.ndim != 4 or pos.ndim != 3:
        raise CheckpointError("not a DeiT checkpoint: its embeddings have other dimensions")
    width = embed.shape[0]
    if heads is None and width % HEAD_WIDTH:
        raise CheckpointError(
            f"width {width} is no multiple of {HEAD_WIDTH}: say how many heads with heads=N"
        )
    side = math.isqrt(pos.shape[1] - 1)
    if side < 1 or side * side + 1 != pos.shape[1]:
        raise CheckpointError(
            f"pos_embed has {pos.shape[1]} tokens, which is no square grid and a class token"
        )
    try:
        return DeiTConfig(
            width=width,
            depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
            heads=width // HEAD_WIDTH if heads is None else heads,
            mlp_ratio=hidden // width,
            patch_size=embed.shape[2],
            num_classes=classes,
            grid=(side, side),
            attention=attention,
        )
    except ValueError as error:
        raise CheckpointError(f"not a DeiT that can be served: {error}") from error


def infer_upernet_config(
    state: dict[str, Tensor],
    infer_backbone: Callable[..., BackboneConfig],
    *,
    out_indices: tuple[int, ...] | None = None,
    **options: Any,
) -> UPerNetConfig:
    """The architecture that a segmentation state dict with MMSegmentation's names belongs to.

    Shapes leave open what the backbone's leave open, and which blocks the features come from: by
    default those that end its quarters, as in all published sizes.

    Args:
        state: the tensors.
        infer_backbone: what does the same for the tensors below ``backbone.``.
        out_indices: the blocks, the first from 0.
        options: for ``infer_backbone``.

    Raises:
        CheckpointError: if the tensors are not a UPerNet's.
    """
    try:
        bottleneck, classifier = (
            state[f"decode_head.{name}.weight"] for name in ("bottleneck.conv", "conv_seg")
        )
    except KeyError as error:
        raise CheckpointError(f"not a UPerNet checkpoint: it has no tensor {error}") from error
    backbone = infer_backbone(
        # The classifier that it has not got has no classes.
        {**backbone_tensors(state), "head.weight": classifier.new_empty(0, 0)},
        **options,
    )
    quarter = backbone.depth / FEATURES
    ends = tuple(round(quarter * (i + 1)) - 1 for i in range(FEATURES))
    try:
        return UPerNetConfig(
            backbone=backbone,
            out_indices=out_indices or ends,
            channels=len(bottleneck),
            num_classes=len(classifier),
        )
    except ValueError as error:
        raise CheckpointError(f"not a UPerNet that can be served: {error}") from error


def backbone_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below ``backbone.``, by their names there."""
    prefix = "backbone."
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}


def load_strictly(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a module on the meta device the tensors of a state dict, without copying them.

    Raises:
        CheckpointError: naming tensors that are unknown, missing or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    unknown, missing = state.keys() - expected.keys(), expected.keys() - state.keys()
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{kind}: {_listed(names)}"
        for kind, names in (
            ("unknown tensors", sorted(unknown)),
            ("missing tensors", sorted(missing)),
            ("other shapes", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError("another architecture: " + "; ".join(problems))
    module.load_state_dict(state, strict=True, assign=True)


def _served(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name in state if not name.startswith("auxiliary_head.")}


def _all_tensors(content: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_TENSORS
    return ", ".join(names[:_NAMED_TENSORS]) + (f" and {more} more" if more > 0 else "")


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
