"""What is kept of pictures: the features of their patches, and the classes of their pixels.

Pictures of one grid of patches have features of one shape, so there is a cache for each grid. A
picture is kept in several variants, as it is and flipped or at other scales: a frozen backbone has
other features for each of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vimserve.model.heads.cache import FeatureCache
from vimserve.model.layout import Grid

LABELS_A_SIDE = 16  # classes that are kept of each patch, along each side
MOST_GRIDS = 200  # each has files of its own, of which a process may have about a thousand open
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Entry:
    """A picture in one variant.

    Attributes:
        key: changes with the picture, its mask and the variant.
        grid: (rows, columns) of its patches.
    """

    key: str
    grid: Grid


class PixelCaches:
    """Features in float16 ``[rows, columns, F]`` and classes uint8, on disk, for each grid.

    Args:
        folder: of the caches.
        key: whatever the features depend on besides the entries.
        entries: all that will be kept.
        features: F.
        most_bytes: that they may take together.

    Raises:
        ValueError: if they would take more, or another process uses them.
        OSError: if the files cannot be read or written.
    """

    def __init__(
        self, folder: Path, key: str, entries: Sequence[Entry], features: int, most_bytes: int
    ) -> None:
        check_room(entries, features, most_bytes)
        self._missing: dict[FeatureCache, set[str]] = {}
        self._of_grid: dict[Grid, tuple[FeatureCache, FeatureCache]] = {}
        with ExitStack() as opened:
            for grid in sorted({entry.grid for entry in entries}):
                rows, cols = grid
                labels = rows * LABELS_A_SIDE, cols * LABELS_A_SIDE
                kinds: list[tuple[str, tuple[int, ...], type[np.generic]]] = [
                    ("features", (*grid, features), np.float16),
                    ("classes", labels, np.uint8),
                ]
                two = [
                    opened.enter_context(
                        FeatureCache(folder, f"{kind} {key}", shape, most_bytes, dtype=dtype)
                    )
                    for kind, shape, dtype in kinds
                ]
                self._of_grid[grid] = two[0], two[1]
            for grid, caches in self._of_grid.items():
                names = [entry.key for entry in entries if entry.grid == grid]
                for cache in caches:
                    self._missing[cache] = {*cache.missing(names)}
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def missing(self, entry: Entry) -> bool:
        """Whether there is something of the entry to ``put``."""
        return any(entry.key in self._missing[cache] for cache in self._of_grid[entry.grid])

    def put(self, entry: Entry, features: Tensor, classes: np.ndarray[Any, Any]) -> None:
        """Keep an entry.

        Args:
            entry: of these.
            features: ``[blocks, D, rows, columns]``.
            classes: uint8, ``LABELS_A_SIDE`` for each side of a patch.

        Raises:
            OSError: if the disk is full.
        """
        flat = features.permute(2, 3, 0, 1).flatten(2).clamp(-_LARGEST, _LARGEST)
        of_features, of_classes = self._of_grid[entry.grid]
        for cache, value in ((of_classes, classes), (of_features, flat.numpy())):
            if entry.key in self._missing[cache]:
                cache.put(entry.key, value)
                self._missing[cache].remove(entry.key)

    def features(self, entries: Sequence[Entry]) -> Tensor:
        """Features float32 ``[N, rows, columns, F]`` of entries of one grid."""
        cache, _ = self._of_grid[entries[0].grid]
        return torch.from_numpy(cache.take([one.key for one in entries])).float()

    def classes(self, entries: Sequence[Entry]) -> Tensor:
        """Classes uint8 ``[N, 16 * rows, 16 * columns]`` of entries of one grid."""
        _, cache = self._of_grid[entries[0].grid]
        return torch.from_numpy(cache.take([one.key for one in entries]))

    def sums(self, entries: Sequence[Entry]) -> tuple[int, Tensor, Tensor]:
        """The number of patches, and the sums and sums of squares of features, float64 ``[F]``."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for entry in entries:
            patches = self.features([entry]).double().flatten(0, 2)
            count += len(patches)
            total, squares = total + patches.sum(0), squares + patches.square().sum(0)
        return count, total, squares

    def pixels(self, entries: Sequence[Entry], num_classes: int) -> Tensor:
        """How many pixels each class has, int64 ``[classes]``."""
        counts = torch.zeros(256, dtype=torch.int64)
        for entry in entries:
            counts += torch.bincount(self.classes([entry]).flatten(), minlength=256)
        return counts[:num_classes]


def check_room(entries: Sequence[Entry], features: int, most_bytes: int) -> None:
    """Refuse what would not fit.

    Raises:
        ValueError: with what it takes and what it may take.
    """
    grids = {entry.grid for entry in entries}
    if len(grids) > MOST_GRIDS:
        raise ValueError(
            f"the pictures have {len(grids)} different grids of patches, but there is a cache for "
            f"at most {MOST_GRIDS}: ask for a lower --resolutions, or fewer --scales"
        )
    needed = num_bytes(entries, features)
    if needed > most_bytes:
        raise ValueError(
            f"the features of {len(entries)} pictures take {needed} bytes, more than the "
            f"{most_bytes} that the cache may take: ask for a lower --resolutions, or for a larger "
            "--cache-gb"
        )


def num_bytes(entries: Sequence[Entry], features: int) -> int:
    """What the entries take on disk."""
    patches = sum(rows * cols for rows, cols in (entry.grid for entry in entries))
    return patches * (2 * features + LABELS_A_SIDE**2)


def by_grid(entries: Sequence[Entry], most_patches: int) -> Iterator[list[Entry]]:
    """The entries of each grid, together up to so many patches, or a single one."""
    groups: dict[Grid, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.grid, []).append(entry)
    for (rows, cols), group in groups.items():
        step = max(most_patches // (rows * cols), 1)
        yield from (group[first : first + step] for first in range(0, len(group), step))
