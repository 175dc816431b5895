"""The architecture that a ResNet checkpoint belongs to."""

import itertools

from torch import Tensor

from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.resnet.config import EXPANSION, STAGES, ResNetConfig

_TRAINED_AS_BACKBONE = (32, 32)  # patches of the 512 pixels that segmenters are published for


def infer_resnet_config(state: dict[str, Tensor], *, classifies: bool = True) -> ResNetConfig:
    """The architecture that a state dict with torchvision's names belongs to.

    Shapes do not tell which convolution of a bottleneck has the stride: it is taken to be the one
    of 3 x 3, as torchvision has it.

    Args:
        state: the tensors; the stem may also be that of MMSegmentation's ResNetV1c.
        classifies: whether there must be a classifier; without, it is the backbone of a head.

    Raises:
        CheckpointError: if the tensors are not such a ResNet's.
    """
    deep_stem = "stem.0.weight" in state and "conv1.weight" not in state
    if "layer1.0.conv2.weight" in state and "layer1.0.conv3.weight" not in state:
        raise CheckpointError(
            "a ResNet of basic blocks (18 or 34 layers) is not served, only those of bottlenecks "
            "(50, 101 and 152 layers) are"
        )
    try:
        stem = state["stem.6.weight" if deep_stem else "conv1.weight"]
        inner, outputs = state["layer1.0.conv2.weight"], state["layer1.0.conv3.weight"]
        classes = len(state["fc.weight"]) if classifies else 0
        blocks = tuple(_blocks(state, f"layer{stage + 1}") for stage in range(STAGES))
    except KeyError as error:
        raise CheckpointError(f"not a ResNet checkpoint: it has no tensor {error}") from error
    if not all(tensor.ndim == 4 and len(tensor) for tensor in (stem, inner, outputs)):
        raise CheckpointError("not a ResNet checkpoint: its convolutions have other dimensions")
    if inner.shape[1] != inner.shape[0]:
        groups = len(inner) // max(inner.shape[1], 1)
        raise CheckpointError(f"a ResNeXt is not served: its convolutions are in {groups} groups")
    if len(outputs) != EXPANSION * len(stem):
        raise CheckpointError(
            f"not a ResNet that can be served: its first stage has {len(outputs)} channels, not "
            f"{EXPANSION} times the {len(stem)} of its stem"
        )
    return ResNetConfig(
        blocks=blocks,
        width=len(stem),
        inner=len(inner),
        deep_stem=deep_stem,
        num_classes=classes,
        grid=ResNetConfig.grid if classifies else _TRAINED_AS_BACKBONE,
    )


def _blocks(state: dict[str, Tensor], stage: str) -> int:
    """How many blocks a stage has; what stands beyond a gap is of another architecture.

    Raises:
        KeyError: if there is none.
    """
    if (first := f"{stage}.0.conv1.weight") not in state:
        raise KeyError(first)
    return next(n for n in itertools.count(1) if f"{stage}.{n}.conv1.weight" not in state)
