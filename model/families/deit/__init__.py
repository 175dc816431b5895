"""DeiT (arXiv 2012.12877), the baseline: each published model twice, with either attention."""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from vimserve.model.architecture import Readout
from vimserve.model.class_names import IMAGENET
from vimserve.model.families.deit.checkpoint import infer_deit_config
from vimserve.model.families.deit.config import (
    DEIT_BASE,
    DEIT_BASE_384,
    DEIT_SMALL,
    DEIT_TINY,
    Attention,
    DeiTConfig,
)
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.family import Family, Variant, transform_at_trained_size
from vimserve.model.options import number, one_of
from vimserve.model.sources import HubFile

# timm's copies of the weights that the authors publish (github.com/facebookresearch/deit, README,
# "Model Zoo"), as safetensors. The transform is that of the authors' own evaluation, which resizes
# to 256/224 of the input at every size; timm's evaluation of the same weights crops less.
_PUBLISHED = {
    "deit-tiny": (DEIT_TINY, "timm/deit_tiny_patch16_224.fb_in1k"),
    "deit-small": (DEIT_SMALL, "timm/deit_small_patch16_224.fb_in1k"),
    "deit-base": (DEIT_BASE, "timm/deit_base_patch16_224.fb_in1k"),
    "deit-base-384": (DEIT_BASE_384, "timm/deit_base_patch16_384.fb_in1k"),
}


def _variants() -> Iterator[tuple[str, Variant]]:
    for name, (config, repo) in _PUBLISHED.items():
        source = HubFile(repo, "model.safetensors")
        yield name, Variant(config, source)
        yield f"{name}-eager", Variant(replace(config, attention="eager"), source)


FAMILY = Family(
    name="deit",
    task="classify",
    tensor="blocks.0.attn.qkv.weight",
    describes=lambda config: isinstance(config, DeiTConfig),
    build=DeiT,
    infer=infer_deit_config,
    options={
        "attention": one_of(get_args(Attention)),
        "heads": number(int),
        "window": number(int),
        "readout": one_of(get_args(Readout)),
    },
    variants=dict(_variants()),
    transform=transform_at_trained_size,
    labels={1000: IMAGENET},
)
