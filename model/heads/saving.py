"""Trained heads to files that the server takes as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from vimserve.model import catalog, metadata
from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import Checkpoint, CheckpointError, listed, of_training
from vimserve.model.families import build, family_of
from vimserve.model.heads.delta import digest_of, tensor_digest
from vimserve.model.palette import Palette
from vimserve.model.sources import file_of
from vimserve.model.spec import ModelSpec
from vimserve.model.transform import Transform
from vimserve.model.whole_files import whole


@dataclass(frozen=True)
class Trained:
    """A model of which a part was trained, on a frozen backbone.

    Attributes:
        config: of the whole model.
        labels: of its classes.
        transform: how it wants its pictures.
        backbone: the model whose weights it has else.
        prefix: what it puts before the names of the backbone's tensors.
        tensors: what was trained, by the names that the whole model has for it.
        palette: colours of the classes, if they have any.
    """

    config: ModelConfig
    labels: tuple[str, ...]
    transform: Transform
    backbone: ModelSpec
    prefix: str
    tensors: Mapping[str, Tensor]
    palette: Palette | None = None

    def save(self, file: Path, *, head_only: bool = False) -> None:
        """Write a safetensors file; until it is whole, there is none of this name.

        Args:
            file: its name.
            head_only: leave out the backbone's tensors; their digest is written instead.

        Raises:
            ValueError: if ``head_only`` is asked for on a backbone that is not in the catalog.
            CheckpointError: if the backbone does not have the rest of the tensors.
            OSError: if the file cannot be written.
        """
        if head_only:
            check_head_only(self.backbone)
        family = family_of(self.config)
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        below = self._of_backbone()
        of_backbone = {}
        if head_only:
            of_backbone = {
                "backbone": self.backbone.name,
                "backbone_prefix": self.prefix,
                "backbone_sha256": _digest(below),
            }
        else:
            tensors |= {self.prefix + name: tensor for name, tensor in below.items()}
        texts = metadata.written(
            family, self.config, self.labels, self.transform, self.palette, **of_backbone
        )
        try:
            with whole(file) as partial:
                partial.write_bytes(safetensors.torch.save(tensors, texts))
        except OSError as error:
            raise OSError(f"{file} cannot be written: {error.strerror}") from error

    def _of_backbone(self) -> dict[str, Tensor]:
        """The backbone's tensors that the whole model has, by their own names, as stored."""
        with torch.device("meta"):
            names_of_all = {n for n in build(self.config).state_dict() if not of_training(n)}
        needed = names_of_all - self.tensors.keys()
        with Checkpoint(file_of(self.backbone.source)) as checkpoint:
            taken = {
                name: checkpoint.take(name, tensor.dtype, torch.device("cpu"))
                for name, tensor in checkpoint.tensors.items()
                if self.prefix + name in needed or name.startswith(catalog.TABLES)
            }
        if absent := sorted(needed - {self.prefix + name for name in taken}):
            raise CheckpointError(f"{self.backbone.name} lacks tensors: {listed(absent)}")
        return taken


def check_head_only(backbone: ModelSpec) -> None:
    """Check that others have the backbone of a head alone.

    Raises:
        ValueError: if it is not that of the catalog.
    """
    known = backbone.name in catalog.names()
    if not known or catalog.resolve(backbone.name).source != backbone.source:
        raise ValueError(
            f"a head alone needs a backbone of the catalog, {backbone.name} is a file: save the "
            "whole model"
        )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digests = {name: tensor_digest(values.float()) for name, values in tensors.items()}
    return digest_of(
        {name: one for name, one in digests.items() if not name.startswith(catalog.TABLES)}
    )
