"""The architecture that the file of a linear head belongs to."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vimserve.model.architecture import BackboneConfig
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import CELLS_A_PATCH, PREFIX, WEIGHT
from vimserve.model.tensor_names import below


def infer_linear_config(
    state: dict[str, Tensor], infer_backbone: Callable[..., BackboneConfig], **options: Any
) -> LinearConfig:
    """The architecture that a state dict belongs to.

    Args:
        state: the tensors.
        infer_backbone: what does the same for the tensors of the backbone.
        options: what ``infer_backbone`` cannot read off the shapes.

    Raises:
        CheckpointError: if the tensors are not those of a linear head on such a backbone.
    """
    weight = state.get(WEIGHT)
    if weight is None or weight.ndim != 2 or not len(weight) or len(weight) % CELLS_A_PATCH:
        raise CheckpointError(
            f"not a linear head: {WEIGHT} must have {CELLS_A_PATCH} rows for each class"
        )
    own = below(state, PREFIX)
    own["head.weight"] = weight.new_empty(0, 0)  # the backbone has no classifier
    try:
        config = LinearConfig(infer_backbone(own, **options), len(weight) // CELLS_A_PATCH)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"not a linear head that can be served: {error}") from error
    if weight.shape[1] != config.features:
        raise CheckpointError(
            f"the head reads {weight.shape[1]} features of a patch, but its backbone has "
            f"{config.features}: it belongs to another one"
        )
    return config
