"""The families of models: how each is recognised, configured and built."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor

from vimserve.model.checkpoint import (
    CheckpointError,
    infer_deit_config,
    infer_upernet_config,
    infer_vim_config,
)
from vimserve.model.config import (
    Attention,
    Bidirectional,
    DeiTConfig,
    ModelConfig,
    Pooling,
    UPerNetConfig,
    VimConfig,
)
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.vim.model import Vim
from vimserve.model.options import Parser, number, numbers, one_of
from vimserve.model.packed import PackedModel

Task = Literal["classify", "segment"]
Model = PackedModel | UPerNetSegmenter


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: as users read it.
        task: what its models answer.
        tensor: a name that only its checkpoints have.
        describes: whether a configuration is one of its models.
        build: configuration to a model with random weights.
        infer: state dict and options to a configuration.
        options: what a user may say about a file because its tensors leave it open.
    """

    name: str
    task: Task
    tensor: str
    describes: Callable[[ModelConfig], bool]
    build: Callable[[Any], Model]
    infer: Callable[..., Any]
    options: dict[str, Parser]


def _on(backbone: Family) -> Family:
    """The family of UPerNets on backbones of a family."""
    options = {name: parser for name, parser in backbone.options.items() if name != "pooling"}
    return Family(
        name=f"{backbone.name}-upernet",
        task="segment",
        tensor=f"backbone.{backbone.tensor}",
        describes=lambda config: (
            isinstance(config, UPerNetConfig) and backbone.describes(config.backbone)
        ),
        build=UPerNetSegmenter.of,
        infer=partial(infer_upernet_config, infer_backbone=backbone.infer),
        options=options | {"out_indices": numbers},
    )


_VIM = Family(
    name="vim",
    task="classify",
    tensor="layers.0.mixer.A_log",
    describes=lambda config: isinstance(config, VimConfig),
    build=Vim,
    infer=infer_vim_config,
    options={
        "stride": number(int),
        "bidirectional": one_of(get_args(Bidirectional)),
        "pooling": one_of(get_args(Pooling)),
    },
)
_DEIT = Family(
    name="deit",
    task="classify",
    tensor="blocks.0.attn.qkv.weight",
    describes=lambda config: isinstance(config, DeiTConfig),
    build=DeiT,
    infer=infer_deit_config,
    options={"attention": one_of(get_args(Attention)), "heads": number(int)},
)
FAMILIES = (_VIM, _DEIT, _on(_VIM), _on(_DEIT))


def family_of(config: ModelConfig) -> Family:
    """The family that a configuration belongs to."""
    return next(family for family in FAMILIES if family.describes(config))


def recognise(state: dict[str, Tensor]) -> Family:
    """The family that a state dict belongs to.

    Raises:
        CheckpointError: if it belongs to none.
    """
    for family in FAMILIES:
        if family.tensor in state:
            return family
    needed = ", ".join(f"{family.tensor} ({family.name})" for family in FAMILIES)
    raise CheckpointError(f"no checkpoint of a known family: it has none of the tensors {needed}")


def build(config: ModelConfig) -> Model:
    """A model with random weights."""
    return family_of(config).build(config)
