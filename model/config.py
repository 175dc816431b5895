"""Every configuration and published size under one name, for users."""

from vimserve.model.architecture import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneConfig,
    ModelConfig,
    Pooling,
)
from vimserve.model.families.deit.config import (
    DEIT_BASE,
    DEIT_BASE_384,
    DEIT_SMALL,
    DEIT_TINY,
    Attention,
    DeiTConfig,
)
from vimserve.model.families.upernet.config import (
    DEIT_SMALL_UPERNET,
    DEIT_TINY_UPERNET,
    VIM_SMALL_UPERNET,
    VIM_TINY_UPERNET,
    UPerNetConfig,
)
from vimserve.model.families.vim.config import (
    VIDEOMAMBA_BASE,
    VIDEOMAMBA_MIDDLE,
    VIDEOMAMBA_SMALL,
    VIDEOMAMBA_TINY,
    VIM_BASE,
    VIM_SMALL,
    VIM_SMALL_PLUS,
    VIM_TINY,
    VIM_TINY_PLUS,
    Bidirectional,
    Rope,
    VimConfig,
)

__all__ = [
    "DEIT_BASE",
    "DEIT_BASE_384",
    "DEIT_SMALL",
    "DEIT_SMALL_UPERNET",
    "DEIT_TINY",
    "DEIT_TINY_UPERNET",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VIDEOMAMBA_BASE",
    "VIDEOMAMBA_MIDDLE",
    "VIDEOMAMBA_SMALL",
    "VIDEOMAMBA_TINY",
    "VIM_BASE",
    "VIM_SMALL",
    "VIM_SMALL_PLUS",
    "VIM_SMALL_UPERNET",
    "VIM_TINY",
    "VIM_TINY_PLUS",
    "VIM_TINY_UPERNET",
    "Attention",
    "BackboneConfig",
    "Bidirectional",
    "DeiTConfig",
    "ModelConfig",
    "Pooling",
    "Rope",
    "UPerNetConfig",
    "VimConfig",
]
