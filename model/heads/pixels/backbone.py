"""The frozen backbones of heads for pixels, and the models that they become with a head."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vimserve.model.families.backbones import build_backbone
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import PREFIX as ENCODER
from vimserve.model.families.upernet.checkpoint import PREFIX as BACKBONE
from vimserve.model.families.upernet.config import UPerNetConfig, last_of_parts
from vimserve.model.heads.features import load_backbone, readable
from vimserve.model.packed import PackedModel
from vimserve.model.spec import ModelSpec

Config = LinearConfig | UPerNetConfig
Kind = Literal["linear", "upernet"]


def config_of(spec: ModelSpec, head: Kind, channels: int, num_classes: int) -> Config:
    """The configuration of the model that a head makes of a classifier.

    Args:
        spec: the classifier.
        head: its kind.
        channels: width of a UPerNet.
        num_classes: of the pixels.

    Raises:
        ValueError: for a classifier that cannot have such a head.
    """
    backbone = dataclasses.replace(readable(spec), readout="class")  # type: ignore[type-var]
    if head == "linear":
        return LinearConfig(backbone, num_classes)
    return UPerNetConfig(backbone, last_of_parts(backbone.depth), channels, num_classes)


def prefix_of(config: Config) -> str:
    """What the whole model puts before the names of its backbone's tensors."""
    return ENCODER if isinstance(config, LinearConfig) else BACKBONE


@dataclass(frozen=True)
class Frozen:
    """A backbone as a head reads it.

    Attributes:
        model: computes the features.
        changed: tensors that differ from the classifier's, by the names of the whole model.
    """

    model: PackedModel
    changed: dict[str, Tensor]


def freeze(
    spec: ModelSpec, config: Config, device: str | torch.device, dtype: torch.dtype
) -> Frozen:
    """The classifier's backbone as ``config`` has it: that of a UPerNet has no class token.

    Raises:
        CheckpointError: if the weights cannot be had.
    """
    backbone = readable(spec)
    whole = dataclasses.replace(backbone, num_classes=0, readout="class")  # type: ignore[type-var]
    model = load_backbone(spec, whole, device, dtype)
    if isinstance(config, LinearConfig):
        return Frozen(model, {})
    own = model.state_dict()
    if config.backbone.class_tokens != whole.class_tokens:
        own["pos_embed"] = model.split_positions()[0][None]
    bare = build_backbone(config.backbone).to(device, dtype)
    bare.load_state_dict({name: own[name] for name in bare.state_dict()})
    changed = {}
    if bare.pos_embed.shape != model.pos_embed.shape:
        changed[f"{BACKBONE}pos_embed"] = own["pos_embed"].float().cpu()
    return Frozen(bare.requires_grad_(False).eval(), changed)
