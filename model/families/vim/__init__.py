"""Vision Mamba (arXiv 2401.09417)."""

from typing import get_args

from vimserve.model.architecture import Pooling
from vimserve.model.class_names import IMAGENET
from vimserve.model.families.family import Family, Variant, transform_at_trained_size
from vimserve.model.families.vim.checkpoint import infer_vim_config
from vimserve.model.families.vim.config import (
    VIM_BASE,
    VIM_SMALL,
    VIM_SMALL_PLUS,
    VIM_TINY,
    VIM_TINY_PLUS,
    Bidirectional,
    VimConfig,
)
from vimserve.model.families.vim.model import Vim
from vimserve.model.options import number, one_of
from vimserve.model.sources import HubFile

# Repositories of the authors (github.com/hustvl/Vim, README, "Model Weights"). The files named _ft_
# were fine-tuned with patches every 8 pixels; the paper marks these models with a plus sign.
_TINY, _SMALL, _BASE = (f"hustvl/Vim-{size}-midclstok" for size in ("tiny", "small", "base"))

FAMILY = Family(
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
    variants={
        "vim-tiny": Variant(VIM_TINY, HubFile(_TINY, "vim_t_midclstok_76p1acc.pth")),
        "vim-tiny-plus": Variant(VIM_TINY_PLUS, HubFile(_TINY, "vim_t_midclstok_ft_78p3acc.pth")),
        "vim-small": Variant(VIM_SMALL, HubFile(_SMALL, "vim_s_midclstok_80p5acc.pth")),
        "vim-small-plus": Variant(
            VIM_SMALL_PLUS, HubFile(_SMALL, "vim_s_midclstok_ft_81p6acc.pth")
        ),
        "vim-base": Variant(VIM_BASE, HubFile(_BASE, "vim_b_midclstok_81p9acc.pth")),
    },
    transform=transform_at_trained_size,
    labels={1000: IMAGENET},
)
