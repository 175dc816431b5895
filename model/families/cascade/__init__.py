"""Cascade Mask R-CNN (arXiv 1906.09756): a family of detectors on each family of backbones."""

from functools import partial
from typing import Any

from vimserve.model.class_names import COCO
from vimserve.model.families.cascade.checkpoint import PREFIX, infer_cascade_config
from vimserve.model.families.cascade.config import (
    DEIT_CASCADES,
    STRIDE,
    VIM_BASE_CASCADE,
    VIM_SMALL_CASCADE,
    VIM_TINY_CASCADE,
    CascadeConfig,
)
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.families.family import (
    Family,
    Variant,
    assume_below,
    transform_at_trained_size,
)
from vimserve.model.packed import PackedModel
from vimserve.model.sources import Unpublished
from vimserve.model.transform import SQUARE_MULTIPLE, Transform

# The paper's detectors, and the same on DeiT, trained at 1024 pixels. Nobody has published weights
# of any.
_VARIANTS = {
    "vim-tiny-cascade": VIM_TINY_CASCADE,
    "vim-small-cascade": VIM_SMALL_CASCADE,
    "vim-base-cascade": VIM_BASE_CASCADE,
    **DEIT_CASCADES,
}
LEAST_SIDE = 32  # pixels, of which the coarsest level that is computed makes one


def on(backbone: Family[PackedModel]) -> Family[CascadeDetector]:
    """The family of cascade detectors on the backbones of a family."""

    def describes(config: object) -> bool:
        return isinstance(config, CascadeConfig) and backbone.describes(config.backbone)

    # There is neither a classifier nor, under the pyramid, another stride.
    given = ("pooling", "stride", "readout")
    options = {name: parse for name, parse in backbone.options.items() if name not in given}
    fixed = {"stride": STRIDE} if "stride" in backbone.options else {}
    return Family(
        name=f"{backbone.name}-cascade",
        task="detect",
        tensor=PREFIX + backbone.tensor,
        describes=describes,
        build=CascadeDetector,
        infer=partial(infer_cascade_config, infer_backbone=partial(backbone.infer, **fixed)),
        options=options,
        variants={
            name: Variant(config, Unpublished())
            for name, config in _VARIANTS.items()
            if describes(config)
        },
        transform=_transform,
        labels={80: COCO},
        has_palette=True,
        assume=assume_below(backbone, PREFIX, options),
        unused=lambda config: tuple(PREFIX + name for name in backbone.unused(config.backbone)),
    )


def _transform(config: CascadeConfig, **changes: Any) -> Transform:
    """As published, a square at the trained size; the whole picture is always seen."""
    if changes.get("fit") == "crop":
        raise ValueError(
            "fit=crop would leave objects out: detection contains, or pads to a square"
        )
    side = -(-config.trained_size[0] // SQUARE_MULTIPLE) * SQUARE_MULTIPLE
    published = {
        "resolution": side, "fit": "square", "minimum": LEAST_SIDE, "filter": "bilinear"
    }  # fmt: skip
    return transform_at_trained_size(config, **published | changes)
