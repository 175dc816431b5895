"""The families that classify and that other families can be built on."""

from vimserve.model.architecture import BackboneConfig
from vimserve.model.families import deit, vim
from vimserve.model.families.family import Family
from vimserve.model.packed import PackedModel

BACKBONES: tuple[Family[PackedModel], ...] = (vim.FAMILY, deit.FAMILY)


def build_backbone(config: BackboneConfig) -> PackedModel:
    """A backbone with random weights."""
    family = next(family for family in BACKBONES if family.describes(config))
    return family.build(config)
