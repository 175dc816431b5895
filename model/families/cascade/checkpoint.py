"""The architecture that a checkpoint of a cascade detector belongs to."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vimserve.model.architecture import BackboneConfig
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.tensor_names import below

PREFIX = "backbone.net."
_READ = (
    "backbone.simfp_4.0.weight",
    "roi_heads.box_head.2.fc1.weight",
    "roi_heads.box_predictor.2.cls_score.weight",
)


def infer_cascade_config(
    state: dict[str, Tensor], infer_backbone: Callable[..., BackboneConfig], **options: Any
) -> CascadeConfig:
    """The architecture that a detector's state dict with the published names belongs to.

    Args:
        state: the tensors.
        infer_backbone: what does the same for the tensors below ``backbone.net.``.
        options: what ``infer_backbone`` cannot read off the shapes.

    Raises:
        CheckpointError: if the tensors are not such a detector's.
    """
    try:
        lateral, hidden, scores = (state[name] for name in _READ)
    except KeyError as error:
        raise CheckpointError(f"not a Cascade R-CNN: it has no tensor {error}") from error
    if not all(tensor.ndim for tensor in (lateral, hidden, scores)):
        raise CheckpointError("not a Cascade R-CNN: its heads have other dimensions")
    own = below(state, PREFIX)
    # The backbone has no classifier, which is read as a classifier of no classes.
    own["head.weight"] = scores.new_empty(0, 0)
    backbone = infer_backbone(own, **options)
    try:
        return CascadeConfig(
            backbone=backbone,
            channels=len(lateral),
            box_width=len(hidden),
            num_classes=len(scores) - 1,
            masks=any(name.startswith("roi_heads.mask_head.") for name in state),
        )
    except ValueError as error:
        raise CheckpointError(f"not a detector that can be served: {error}") from error
