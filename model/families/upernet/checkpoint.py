"""The architecture that a UPerNet checkpoint belongs to."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vimserve.model.architecture import BackboneConfig
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.upernet.config import UPerNetConfig, last_of_parts
from vimserve.model.tensor_names import below

PREFIX = "backbone."


def infer_upernet_config(
    state: dict[str, Tensor],
    infer_backbone: Callable[..., BackboneConfig],
    *,
    out_indices: tuple[int, ...] | None = None,
    **options: Any,
) -> UPerNetConfig:
    """The architecture that a segmentation state dict with MMSegmentation's names belongs to.

    Args:
        state: the tensors.
        infer_backbone: what does the same for the tensors below ``backbone.``.
        out_indices: the blocks that the features come from, the first from 0; by default the last
            one of each quarter of the blocks, as in all published sizes.
        options: what ``infer_backbone`` cannot read off the shapes.

    Raises:
        CheckpointError: if the tensors are not a UPerNet's.
    """
    try:
        bottleneck, classifier = (
            state[f"decode_head.{name}.weight"] for name in ("bottleneck.conv", "conv_seg")
        )
    except KeyError as error:
        raise CheckpointError(f"not a UPerNet checkpoint: it has no tensor {error}") from error
    own = below(state, PREFIX)
    # The backbone has no classifier, which is read as a classifier of no classes.
    own["head.weight"] = classifier.new_empty(0, 0)
    backbone = infer_backbone(own, **options)
    try:
        return UPerNetConfig(
            backbone=backbone,
            out_indices=out_indices or last_of_parts(backbone.depth),
            channels=len(bottleneck),
            num_classes=len(classifier),
        )
    except ValueError as error:
        raise CheckpointError(f"not a UPerNet that can be served: {error}") from error
