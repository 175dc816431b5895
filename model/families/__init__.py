"""The families of models: how each is recognised, configured and built."""

from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import CheckpointError, listed
from vimserve.model.families import upernet
from vimserve.model.families.backbones import BACKBONES
from vimserve.model.families.family import Family
from vimserve.model.served import ServedModel
from vimserve.model.tensor_names import find_below

FAMILIES: tuple[Family[ServedModel], ...] = (*BACKBONES, *map(upernet.on, BACKBONES))


def family_of(config: ModelConfig) -> Family[ServedModel]:
    """The family that a configuration belongs to."""
    return next(family for family in FAMILIES if family.describes(config))


def recognise(state: dict[str, Tensor]) -> Family[ServedModel]:
    """The family that a state dict belongs to.

    Raises:
        CheckpointError: if it belongs to none.
    """
    for family in FAMILIES:
        if family.tensor in state:
            return family
    if any(name.startswith("backbone.net.") for name in state):
        raise CheckpointError("a detector (detectron2's names, backbone.net.…) is not served")
    if found := find_below(state, [family.tensor for family in FAMILIES]):
        before, others = found
        raise CheckpointError(
            f"it holds a model under {before!r} and other tensors beside it, which would have to "
            f"be left out of the file: {listed(others)}"
        )
    needed = ", ".join(f"{family.tensor} ({family.name})" for family in FAMILIES)
    raise CheckpointError(f"no checkpoint of a known family: it has none of the tensors {needed}")


def build(config: ModelConfig) -> ServedModel:
    """A model with random weights."""
    return family_of(config).build(config)
