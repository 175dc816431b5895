"""Everything about a model but the values of its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vimserve.model.architecture import ModelConfig
from vimserve.model.families import build, family_of
from vimserve.model.palette import Palette
from vimserve.model.sources import Source
from vimserve.model.transform import Transform


@dataclass(frozen=True)
class ModelSpec:
    """A model as the catalog or a file describes it.

    ``palette`` has a colour for each class of a model that segments. ``assumed`` says what its file
    leaves open, and how to say otherwise.
    """

    name: str
    config: ModelConfig
    labels: tuple[str, ...]
    transform: Transform
    source: Source
    palette: Palette | None = None
    assumed: str = ""

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
        return self.source.is_file() if isinstance(self.source, Path) else self.source.cached

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(self.config).parameters())
