"""A head in a file of its own, and the published backbone that it was trained on."""

from collections.abc import Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from vimserve.model.checkpoint import Checkpoint, CheckpointError
from vimserve.model.sources import Source, file_of


@dataclass(frozen=True)
class Backbone:
    """Where the tensors are that a head's file leaves out.

    Attributes:
        name: in the catalog.
        source: of the backbone's weights.
        prefix: what the whole model puts before the backbone's names.
        digest: of those of its tensors that the whole model has.
    """

    name: str
    source: Source
    prefix: str
    digest: str


class HeadCheckpoint(Checkpoint):
    """The checkpoint of a head and of its backbone, as if they were one file.

    Args:
        path: the head's file.
        backbone: of the head.
        needed: names of the whole model's tensors; the backbone's others are left out.

    Raises:
        CheckpointError: as ``Checkpoint``, for either file.
    """

    def __init__(self, path: Path, backbone: Backbone, needed: Container[str]) -> None:
        super().__init__(path)
        with ExitStack() as opened:
            opened.callback(super().__exit__, None, None, None)
            self._file_below = file_of(backbone.source)
            self._below = opened.enter_context(Checkpoint(self._file_below))
            self._and_below = opened.pop_all()
        self._backbone = backbone
        self._digests: dict[str, bytes] = {}
        self._of_backbone = {
            name: own
            for own in self._below.tensors
            if (name := backbone.prefix + own) in needed and name not in self.tensors
        }
        self.tensors |= {n: self._below.tensors[own] for n, own in self._of_backbone.items()}

    def __exit__(self, *_: object) -> None:
        self._and_below.close()

    def take(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """As ``Checkpoint.take``."""
        own = self._of_backbone.get(name)
        if own is None:
            return super().take(name, dtype, device)
        values = self._below.take(own, torch.float32, torch.device("cpu"))
        self._digests[own] = tensor_digest(values)
        return values.to(device, dtype)

    def check_unchanged(self) -> None:
        """As ``Checkpoint.check_unchanged``, once all tensors were taken.

        Raises:
            CheckpointError: if a file has changed, or the backbone is another one.
        """
        super().check_unchanged()
        self._below.check_unchanged()
        digest = digest_of(self._digests)
        if digest != self._backbone.digest:
            raise CheckpointError(
                f"it is the head of another backbone: {self._backbone.name} ({self._file_below}) "
                f"has the digest {digest[:12]}…, it was trained on {self._backbone.digest[:12]}…"
            )


def tensor_digest(values: Tensor) -> bytes:
    """SHA-256 of the shape and the values of a float32 tensor on the CPU."""
    digest = sha256(repr(tuple(values.shape)).encode())
    digest.update(values.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def digest_of(tensors: Mapping[str, bytes]) -> str:
    """SHA-256, in hexadecimal, of tensors by their names and digests, in whatever order."""
    whole = sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + b"\0" + tensors[name])
    return whole.hexdigest()
