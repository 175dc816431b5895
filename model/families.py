"""The families of models: how each is recognised, configured and built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from model.checkpoint import CheckpointError, infer_deit_config, infer_vim_config
from model.config import Attention, Bidirectional, DeiTConfig, ModelConfig, Pooling, VimConfig
from model.deit import DeiT
from model.options import Parser, number, one_of
from model.packed import PackedModel
from model.vim import Vim


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: as users read it.
        tensor: a name that only its checkpoints have.
        config_type: what describes a model.
        model_type: built from a ``config_type``.
        infer: state dict and options to a ``config_type``.
        options: what a user may say about a file because its tensors leave it open.
    """

    name: str
    tensor: str
    config_type: type[ModelConfig]
    model_type: Callable[[Any], PackedModel]
    infer: Callable[..., ModelConfig]
    options: dict[str, Parser]


FAMILIES = (
    Family(
        name="vim",
        tensor="layers.0.mixer.A_log",
        config_type=VimConfig,
        model_type=Vim,
        infer=infer_vim_config,
        options={
            "stride": number(int),
            "bidirectional": one_of(get_args(Bidirectional)),
            "pooling": one_of(get_args(Pooling)),
        },
    ),
    Family(
        name="deit",
        tensor="blocks.0.attn.qkv.weight",
        config_type=DeiTConfig,
        model_type=DeiT,
        infer=infer_deit_config,
        options={"attention": one_of(get_args(Attention)), "heads": number(int)},
    ),
)


def family_of(config: ModelConfig) -> Family:
    """The family that a configuration belongs to."""
    return next(family for family in FAMILIES if isinstance(config, family.config_type))


def recognise(state: dict[str, Tensor]) -> Family:
    """The family that a state dict belongs to.

    Raises:
        CheckpointError: if it belongs to none.
    """
    for family in FAMILIES:
        if family.tensor in state:
            return family
    needed = " nor ".join(f"{family.tensor} ({family.name})" for family in FAMILIES)
    raise CheckpointError(f"neither a Vim nor a DeiT checkpoint: it has no tensor {needed}")


def build(config: ModelConfig) -> PackedModel:
    """A model with random weights."""
    return family_of(config).model_type(config)
