"""Vision Mamba (arXiv 2401.09417), and its relatives VideoMamba (for images) and Mamba-Reg."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

from vimserve.model.architecture import Pooling, Readout
from vimserve.model.class_names import IMAGENET
from vimserve.model.families.family import Family, Variant, transform_at_trained_size
from vimserve.model.families.vim.checkpoint import infer_vim_config, unused
from vimserve.model.families.vim.choices import Relative, Turned, assume
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
    VimConfig,
)
from vimserve.model.families.vim.model import Vim
from vimserve.model.options import number, one_of, yes_or_no
from vimserve.model.sources import HubFile
from vimserve.model.transform import Transform

# Repositories of the authors (github.com/hustvl/Vim, README, "Model Weights"). The files named _ft_
# were fine-tuned with patches every 8 pixels; the paper marks these models with a plus sign.
_TINY, _SMALL, _BASE = (f"hustvl/Vim-{size}-midclstok" for size in ("tiny", "small", "base"))

# github.com/OpenGVLab/VideoMamba, "videomamba/image_sm", Apache-2.0. Middle and base were
# trained by self-distillation. Those at 448 were fine-tuned from 224 pixels, those at 576 from 448.
_VIDEOMAMBA = {
    "tiny": (VIDEOMAMBA_TINY, "t16"),
    "small": (VIDEOMAMBA_SMALL, "s16"),
    "middle": (VIDEOMAMBA_MIDDLE, "m16"),
    "base": (VIDEOMAMBA_BASE, "b16"),
}
_FINE_TUNED = {"": ("224", 14), "-448": ("224to448", 28), "-576": ("224to448to576", 36)}


def _videomambas() -> Iterator[tuple[str, Variant]]:
    for size, (config, short) in _VIDEOMAMBA.items():
        for ending, (resolutions, rows) in _FINE_TUNED.items():
            if size == "base" and ending:
                continue
            file = HubFile("OpenGVLab/VideoMamba", f"videomamba_{short}_in1k_res{resolutions}.pth")
            yield f"videomamba-{size}{ending}", Variant(replace(config, grid=(rows, rows)), file)


def _transform(config: VimConfig, **changes: Any) -> Transform:
    """The published evaluation: of all, only Mamba-Reg's cuts nothing off the shorter side."""
    cut = {"crop_ratio": 1.0} if config.registers else {}
    return transform_at_trained_size(config, **cut | changes)


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
        "readout": one_of(get_args(Readout)),
        "divide": yes_or_no,
        "rope": one_of(get_args(Turned)),
        "family": one_of(get_args(Relative)),
    },
    variants={
        "vim-tiny": Variant(VIM_TINY, HubFile(_TINY, "vim_t_midclstok_76p1acc.pth")),
        "vim-tiny-plus": Variant(VIM_TINY_PLUS, HubFile(_TINY, "vim_t_midclstok_ft_78p3acc.pth")),
        "vim-small": Variant(VIM_SMALL, HubFile(_SMALL, "vim_s_midclstok_80p5acc.pth")),
        "vim-small-plus": Variant(
            VIM_SMALL_PLUS, HubFile(_SMALL, "vim_s_midclstok_ft_81p6acc.pth")
        ),
        "vim-base": Variant(VIM_BASE, HubFile(_BASE, "vim_b_midclstok_81p9acc.pth")),
        **dict(_videomambas()),
    },
    transform=_transform,
    labels={1000: IMAGENET},
    assume=assume,
    unused=unused,
)
