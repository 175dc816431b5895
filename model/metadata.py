"""What a file of ours says of its model beside the tensors, so that nothing else has to be said.

It is JSON in the metadata of the safetensors format, under one name: the options of ``NAME=FILE?…``
with their values, of which ``labels`` and ``palette`` are lists here instead of the names of files.
A file of a head alone also names the backbone of the catalog that it belongs to, and the digest of
its tensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vimserve.model.architecture import ModelConfig
from vimserve.model.checkpoint import METADATA, CheckpointError
from vimserve.model.class_names import checked_labels
from vimserve.model.families.family import Family
from vimserve.model.families.vim.config import Rope
from vimserve.model.palette import Palette, checked_palette
from vimserve.model.served import ServedModel
from vimserve.model.transform import Transform

LABELS, PALETTE = "labels", "palette"
_OF_BACKBONE = ("backbone", "backbone_prefix", "backbone_sha256")
NATIVE = "native"
_PREPROCESSING = ("resolution", "fit", "crop_ratio", "range", "bands")


def written(
    family: Family[ServedModel],
    config: ModelConfig,
    labels: tuple[str, ...],
    transform: Transform,
    palette: Palette | None,
    **of_backbone: str,
) -> dict[str, str]:
    """The metadata of a file with such a model; ``of_backbone`` as ``Said`` has it."""
    options = {
        **{name: _text(getattr(transform, name)) for name in _PREPROCESSING},
        **{name: _text(_option(config, name)) for name in family.options},
    }
    if transform.resolution is None:
        options["resolution"] = NATIVE
    said: dict[str, Any] = {name: text for name, text in options.items() if text}
    said |= {LABELS: labels, **({PALETTE: palette} if palette else {}), **of_backbone}
    return {METADATA: json.dumps(said, ensure_ascii=False)}


@dataclass(frozen=True)
class Said:
    """What metadata say; nothing if they are not ours.

    Attributes:
        options: those that are texts.
        labels: the names of classes, not checked.
        palette: their colours, not checked.
        backbone: name of a backbone that is not in the file, or empty.
        backbone_prefix: what the whole model puts before the names of its tensors.
        backbone_sha256: the digest of these.
    """

    options: Mapping[str, str]
    labels: Any = None
    palette: Any = None
    backbone: str = ""
    backbone_prefix: str = ""
    backbone_sha256: str = ""

    def check_labels(self, classes: int) -> tuple[str, ...] | None:
        """The names of so many classes, if there are any.

        Raises:
            ValueError: if there are not so many.
        """
        if self.labels is None:
            return None
        return checked_labels(self.labels, classes, f"metadata {LABELS}")

    def check_palette(self, classes: int) -> Palette | None:
        """The colours of so many classes, if there are any.

        Raises:
            ValueError: if there are not so many.
        """
        if self.palette is None:
            return None
        return checked_palette(self.palette, classes, f"metadata {PALETTE}")


def read(metadata: Mapping[str, str]) -> Said:
    """What metadata say.

    Raises:
        CheckpointError: if it is not what ``written`` has written.
    """
    try:
        content = json.loads(metadata.get(METADATA, "{}"))
    except ValueError as error:
        raise CheckpointError(f"its metadata are damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError("its metadata are damaged: no object of options")
    labels, palette = content.pop(LABELS, None), content.pop(PALETTE, None)
    if foreign := [name for name, text in content.items() if not isinstance(text, str)]:
        raise CheckpointError(f"its metadata have something else than a text for {foreign[0]!r}")
    of_backbone = {name: content.pop(name) for name in _OF_BACKBONE if name in content}
    return Said(content, labels, palette, **of_backbone)


def _option(config: ModelConfig, option: str) -> Any:
    """What a configuration, or that of its backbone, has for an option; None for a hint."""
    return getattr(config, option, getattr(getattr(config, "backbone", None), option, None))


def _text(value: Any) -> str:
    if isinstance(value, Rope):
        return "both" if value.residual else "hidden"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
