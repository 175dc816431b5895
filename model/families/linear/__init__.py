"""A linear head on the features of patches: a family of segmenters on each family of backbones."""

from functools import partial

from vimserve.model.families.family import Family, assume_below
from vimserve.model.families.linear.checkpoint import infer_linear_config
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import PREFIX, LinearSegmenter
from vimserve.model.families.upernet import transform_of_segmenter
from vimserve.model.packed import PackedModel


def on(backbone: Family[PackedModel]) -> Family[LinearSegmenter]:
    """The family of linear heads on the backbones of a family. Nobody has published any."""

    def describes(config: object) -> bool:
        return isinstance(config, LinearConfig) and backbone.describes(config.backbone)

    options = {name: parse for name, parse in backbone.options.items() if name != "readout"}
    return Family(
        name=f"{backbone.name}-linear",
        task="segment",
        tensor=f"{PREFIX}{backbone.tensor}",
        describes=describes,
        build=LinearSegmenter,
        infer=partial(infer_linear_config, infer_backbone=backbone.infer),
        options=options,
        variants={},
        transform=transform_of_segmenter,
        labels={},
        has_palette=True,
        assume=assume_below(backbone, PREFIX, options),
        unused=lambda config: tuple(PREFIX + name for name in backbone.unused(config.backbone)),
    )
