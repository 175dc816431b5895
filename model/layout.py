"""Where the sequences of a batch lie among its packed tokens."""

import functools
import math
from collections.abc import Hashable, Sequence
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
        grids: (rows, columns) of patches of every image; in a graph they are not known.
        turns: ``[T, 2]`` float32, by which the channels of every token turn (see
            ``kernels.add_norm.Turn``), in a model with rotary position embedding.
    """

    cu_seqlens: Tensor
    class_rows: Tensor
    lengths: tuple[int, ...]
    turns: Tensor | None = None
    grids: tuple[Grid, ...] = ()

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
        return _alike(self.lengths)

    @functools.cached_property
    def grid_groups(self) -> list[list[int]]:
        """The sequences of each grid, by their numbers."""
        return _alike(self.grids)

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
        return cls.view(flat, len(grids), tuple(lengths), turns, tuple(grids))

    @classmethod
    def view(
        cls,
        flat: Tensor,
        sequences: int,
        lengths: tuple[int, ...],
        turns: Tensor | None = None,
        grids: tuple[Grid, ...] = (),
    ) -> "Layout":
        """The layout whose two tensors lie end to end in ``flat``, so that one copy brings both."""
        cu_seqlens, rows = flat[: sequences + 1], flat[sequences + 1 :]
        return cls(cu_seqlens, rows.view(sequences, -1), lengths, turns, grids)

    def patch_rows(self, patches: int) -> Tensor:
        """``[patches]`` int32: the row of every patch among the tokens.

        Computed on the device: each class token pushes the patches after it back by one row.
        """
        index = torch.arange(patches, dtype=torch.int32, device=self.cu_seqlens.device)
        rows = self.class_rows.flatten()
        pushed_by = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        return index + torch.searchsorted(rows - pushed_by, index, right=True, out_int32=True)


def equal_groups(grids: Sequence[Grid], most_patches: int) -> list[list[int]]:
    """Images of equal grids, by their numbers: together up to so many patches, or a single one."""
    return [
        images[first : first + step]
        for images in _alike(grids)
        for step in (max(1, most_patches // math.prod(grids[images[0]])),)
        for first in range(0, len(images), step)
    ]


def _alike(of_sequences: Sequence[Hashable]) -> list[list[int]]:
    """The numbers of the sequences (or images) that have something in common, together."""
    groups: dict[Hashable, list[int]] = {}
    for sequence, value in enumerate(of_sequences):
        groups.setdefault(value, []).append(sequence)
    return list(groups.values())
