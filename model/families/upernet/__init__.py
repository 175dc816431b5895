"""UPerNet (arXiv 1807.10221): a family of segmenters on each family of backbones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from vimserve.model.class_names import ADE20K
from vimserve.model.families.family import Family, Variant, transform_at_trained_size
from vimserve.model.families.upernet.checkpoint import PREFIX, below, infer_upernet_config
from vimserve.model.families.upernet.config import (
    DEIT_SMALL_UPERNET,
    DEIT_SMALL_UPERNET_EAGER,
    DEIT_TINY_UPERNET,
    DEIT_TINY_UPERNET_EAGER,
    VIM_SMALL_UPERNET,
    VIM_TINY_UPERNET,
    UPerNetConfig,
)
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.hints import Assumption, Hints
from vimserve.model.options import numbers
from vimserve.model.packed import PackedModel
from vimserve.model.sources import Unpublished
from vimserve.model.transform import Transform

# The paper's segmentation system, and the same on DeiT, trained at 512 pixels. Nobody has published
# weights of either.
_VARIANTS = {
    "vim-tiny-upernet": VIM_TINY_UPERNET,
    "vim-small-upernet": VIM_SMALL_UPERNET,
    "deit-tiny-upernet": DEIT_TINY_UPERNET,
    "deit-tiny-upernet-eager": DEIT_TINY_UPERNET_EAGER,
    "deit-small-upernet": DEIT_SMALL_UPERNET,
    "deit-small-upernet-eager": DEIT_SMALL_UPERNET_EAGER,
}


def on(backbone: Family[PackedModel]) -> Family[UPerNetSegmenter]:
    """The family of UPerNets on the backbones of a family."""

    def describes(config: object) -> bool:
        return isinstance(config, UPerNetConfig) and backbone.describes(config.backbone)

    def assume(
        state: Mapping[str, Tensor], hints: Hints, given: Mapping[str, Any]
    ) -> list[Assumption]:
        own = below(state)
        return [a for a in backbone.assume(own, hints, given) if a.option in options]

    options = {name: parse for name, parse in backbone.options.items() if name != "pooling"}
    return Family(
        name=f"{backbone.name}-upernet",
        task="segment",
        tensor=f"backbone.{backbone.tensor}",
        describes=describes,
        build=UPerNetSegmenter.of,
        infer=partial(infer_upernet_config, infer_backbone=backbone.infer),
        options=options | {"out_indices": numbers},
        variants={
            name: Variant(config, Unpublished())
            for name, config in _VARIANTS.items()
            if describes(config)
        },
        transform=_transform,
        labels={150: ADE20K},
        has_palette=True,
        assume=assume,
        unused=lambda config: tuple(PREFIX + name for name in backbone.unused(config.backbone)),
    )


def _transform(config: UPerNetConfig, **changes: Any) -> Transform:
    """Every pixel gets a class, at the image's own size."""
    if changes.get("fit") == "crop":
        raise ValueError("fit=crop would leave pixels without a class: segmentation contains")
    return transform_at_trained_size(config, **{"resolution": None, "fit": "contain"} | changes)
