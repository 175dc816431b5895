"""Where the sequences of a batch lie among its packed tokens."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from vimserve.model.architecture import BackboneConfig
from vimserve.model.batch import to_device

Grid = tuple[int, int]


def sequence_lengths(config: BackboneConfig, grids: Sequence[Grid]) -> list[int]:
    """Tokens of every image, class tokens included."""
    return [rows * cols + config.class_tokens for rows, cols in grids]


def class_rows(config: BackboneConfig, grids: Sequence[Grid]) -> list[tuple[int, ...]]:
    """For every image the rows of its class tokens among the packed tokens."""
    begins = accumulate(sequence_lengths(config, grids), initial=0)
    return [
        tuple(begin + position for position in config.class_positions(rows * cols))
        for begin, (rows, cols) in zip(begins, grids, strict=False)
    ]


@dataclass(frozen=True)
class Layout:
    """The boundaries that the kernels and the classifier read, on the model's device.

    Attributes:
        cu_seqlens: ``[N + 1]`` int32, sequence ``i`` owns the tokens from ``cu_seqlens[i]`` to
            ``cu_seqlens[i + 1]``.
        class_rows: ``[N, c]`` int32, the rows of the c class tokens of every sequence.
        lengths: of every sequence, where the host can read them without waiting for the device; in
            a graph that holds any images only a bound on the longest.
        turns: ``[T, 2]`` float32, by which the channels of every token turn (see
            ``kernels.add_norm.Turn``), in a model with rotary position embedding.
    """

    cu_seqlens: Tensor
    class_rows: Tensor
    lengths: tuple[int, ...]
    turns: Tensor | None = None

    @functools.cached_property
    def longest(self) -> int:
        """The longest of ``lengths``."""
        return max(self.lengths)

    @functools.cached_property
    def common_length(self) -> int | None:
        """The length of all sequences, if the host knows all and they are of one."""
        if len(self.lengths) < len(self.cu_seqlens) - 1 or len(set(self.lengths)) > 1:
            return None
        return self.lengths[0]

    @functools.cached_property
    def groups(self) -> list[list[int]]:
        """The sequences of each length, by their numbers."""
        groups: dict[int, list[int]] = {}
        for sequence, length in enumerate(self.lengths):
            groups.setdefault(length, []).append(sequence)
        return list(groups.values())

    @classmethod
    def of(
        cls,
        config: BackboneConfig,
        grids: Sequence[Grid],
        device: torch.device,
        turns: Tensor | None = None,
    ) -> "Layout":
        """The layout of images with these grids of patches."""
        lengths = sequence_lengths(config, grids)
        rows = class_rows(config, grids)
        boundaries = accumulate(lengths, initial=0)
        flat = to_device([*boundaries, *(row for image in rows for row in image)], device)
        return cls.view(flat, len(grids), tuple(lengths), turns)

    @classmethod
    def view(
        cls, flat: Tensor, sequences: int, lengths: tuple[int, ...], turns: Tensor | None = None
    ) -> "Layout":
        """The layout whose two tensors lie end to end in ``flat``, so that one copy brings both."""
        cu_seqlens, rows = flat[: sequences + 1], flat[sequences + 1 :]
        return cls(cu_seqlens, rows.view(sequences, -1), lengths, turns)

    def patch_rows(self, patches: int) -> Tensor:
        """``[patches]`` int32: the row of every patch among the tokens.

        Computed on the device: each class token pushes the patches after it back by one row.
        """
        index = torch.arange(patches, dtype=torch.int32, device=self.cu_seqlens.device)
        rows = self.class_rows.flatten()
        pushed_by = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        return index + torch.searchsorted(rows - pushed_by, index, right=True, out_int32=True)
