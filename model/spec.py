"""Everything about a model but the values of its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vimserve.model.architecture import ModelConfig
from vimserve.model.families import build, family_of
from vimserve.model.heads.delta import Backbone
from vimserve.model.palette import Palette
from vimserve.model.sources import Source
from vimserve.model.transform import Transform


@dataclass(frozen=True)
class ModelSpec:
    """A model as the catalog or a file describes it.

    ``palette`` has a colour for each class of a model that segments. ``assumed`` says what its file
    leaves open, and how to say otherwise. If there is a ``backbone``, its file has a head alone.
    """

    name: str
    config: ModelConfig
    labels: tuple[str, ...]
    transform: Transform
    source: Source
    palette: Palette | None = None
    assumed: str = ""
    backbone: Backbone | None = None

    @property
    def family(self) -> str:
        """Name of its family, such as ``vim`` or ``deit-upernet``."""
        return family_of(self.config).name

    @property
    def task(self) -> str:
        """What it does: ``classify`` or ``segment``."""
        return family_of(self.config).task

    @property
    def attention(self) -> str:
        """``fused``, ``eager`` or, where there is none, ``none``."""
        return self.config.attention

    @property
    def available(self) -> bool:
        """Whether the weights are on this machine."""
        sources = [self.source, self.backbone.source] if self.backbone else [self.source]
        return all(one.is_file() if isinstance(one, Path) else one.cached for one in sources)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(self.config).parameters())
