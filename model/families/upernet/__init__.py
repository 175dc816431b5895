"""UPerNet (arXiv 1807.10221): a family of segmenters on each family of backbones."""

from collections.abc import Callable
from functools import partial
from typing import Any

from vimserve.model.architecture import ModelConfig
from vimserve.model.class_names import ADE20K
from vimserve.model.families.family import (
    Family,
    Variant,
    assume_below,
    transform_at_trained_size,
)
from vimserve.model.families.resnet.model import ResNet
from vimserve.model.families.upernet.checkpoint import PREFIX, infer_upernet_config
from vimserve.model.families.upernet.config import (
    DEIT_SMALL_UPERNET,
    DEIT_SMALL_UPERNET_EAGER,
    DEIT_TINY_UPERNET,
    DEIT_TINY_UPERNET_EAGER,
    RESNET_50_UPERNET,
    RESNET_101_UPERNET,
    VIM_SMALL_UPERNET,
    VIM_TINY_UPERNET,
    UPerNetConfig,
)
from vimserve.model.families.upernet.convolutional import ConvolutionalSegmenter
from vimserve.model.families.upernet.model import UPerNetSegmenter
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.options import numbers
from vimserve.model.packed import PackedModel
from vimserve.model.served import ServedModel
from vimserve.model.sources import Unpublished, WebFile
from vimserve.model.transform import Transform

# The paper's segmentation system, the same on DeiT, and MMSegmentation's own on ResNets, trained at
# 512 pixels. Nobody has published weights of the first two.
_VARIANTS = {
    "vim-tiny-upernet": VIM_TINY_UPERNET,
    "vim-small-upernet": VIM_SMALL_UPERNET,
    "deit-tiny-upernet": DEIT_TINY_UPERNET,
    "deit-tiny-upernet-eager": DEIT_TINY_UPERNET_EAGER,
    "deit-small-upernet": DEIT_SMALL_UPERNET,
    "deit-small-upernet-eager": DEIT_SMALL_UPERNET_EAGER,
    "resnet-50-upernet": RESNET_50_UPERNET,
    "resnet-101-upernet": RESNET_101_UPERNET,
}
# Of github.com/open-mmlab/mmsegmentation, configs/upernet/metafile.yml: ADE20K, 160,000 iterations.
_WEIGHTS = "https://download.openmmlab.com/mmsegmentation/v0.5/upernet"
_ON_50, _ON_101 = (f"upernet_r{layers}_512x512_160k_ade20k" for layers in (50, 101))
_SOURCES = {
    "resnet-50-upernet": WebFile(f"{_WEIGHTS}/{_ON_50}/{_ON_50}_20200615_184328-8534de8d.pth"),
    "resnet-101-upernet": WebFile(f"{_WEIGHTS}/{_ON_101}/{_ON_101}_20200615_161951-91b32684.pth"),
}


def on(backbone: Family[PackedModel]) -> Family[Segmenter]:
    """The family of UPerNets on the backbones of a family of packed tokens."""
    return _on(backbone, UPerNetSegmenter.of, backbone.infer)


def on_resnet(backbone: Family[ResNet]) -> Family[Segmenter]:
    """The family of UPerNets on ResNets."""
    return _on(backbone, ConvolutionalSegmenter, partial(backbone.infer, classifies=False))


def _on(
    backbone: Family[ServedModel],
    build: Callable[[Any], Segmenter],
    infer_backbone: Callable[..., Any],
) -> Family[Segmenter]:
    def describes(config: object) -> bool:
        return isinstance(config, UPerNetConfig) and backbone.describes(config.backbone)

    of_classifier = ("pooling", "readout")
    options = {name: parse for name, parse in backbone.options.items() if name not in of_classifier}
    return Family(
        name=f"{backbone.name}-upernet",
        task="segment",
        tensor=f"backbone.{backbone.tensor}",
        describes=describes,
        build=build,
        infer=partial(infer_upernet_config, infer_backbone=infer_backbone),
        options=options | {"out_indices": numbers},
        variants={
            name: Variant(config, _SOURCES.get(name, Unpublished()))
            for name, config in _VARIANTS.items()
            if describes(config)
        },
        transform=transform_of_segmenter,
        labels={150: ADE20K},
        has_palette=True,
        assume=assume_below(backbone, PREFIX, options),
        unused=lambda config: tuple(PREFIX + name for name in backbone.unused(config.backbone)),
    )


def transform_of_segmenter(config: ModelConfig, **changes: Any) -> Transform:
    """Every pixel gets a class, at the image's own size."""
    if changes.get("fit") == "crop":
        raise ValueError("fit=crop would leave pixels without a class: segmentation contains")
    return transform_at_trained_size(config, **{"resolution": None, "fit": "contain"} | changes)
