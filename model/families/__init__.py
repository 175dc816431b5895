"""The families of models: how each is recognised, configured and built."""

from torch import Tensor

from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import CheckpointError, listed
from vimserve.model.families import cascade, linear, resnet, upernet
from vimserve.model.families.backbones import BACKBONES
from vimserve.model.families.family import Family
from vimserve.model.served import ServedModel
from vimserve.model.tensor_names import find_below

FAMILIES: tuple[Family[ServedModel], ...] = (
    *BACKBONES,
    resnet.FAMILY,
    *map(upernet.on, BACKBONES),
    upernet.on_resnet(resnet.FAMILY),
    *map(linear.on, BACKBONES),
    *map(cascade.on, BACKBONES),
)

# Detectors of other kinds, by how names begin that only they have.
_OTHER_DETECTORS = {
    "proposal_generator.": "a Detectron2 detector on another backbone",
    "rpn.head.": "torchvision's detector",
    "rpn_head.": "an MMDetection detector",
}


def family_of(config: ModelConfig) -> Family[ServedModel]:
    """The family that a configuration belongs to."""
    return next(family for family in FAMILIES if family.describes(config))


def recognise(state: dict[str, Tensor]) -> Family[ServedModel]:
    """The family that a state dict belongs to.

    Raises:
        CheckpointError: if it belongs to none.
    """
    family = next((family for family in FAMILIES if family.tensor in state), None)
    detectors = (
        detector
        for beginning, detector in _OTHER_DETECTORS.items()
        if any(name.startswith(beginning) for name in state)
    )
    if (family is None or family.task != "detect") and (detector := next(detectors, None)):
        raise CheckpointError(
            f"{detector} is not served, only a Cascade R-CNN on a Vim or a plain ViT is, whose "
            "names begin with backbone.net, proposal_generator and roi_heads"
        )
    if family is not None:
        return family
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
