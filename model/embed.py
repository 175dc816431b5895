"""Patches to tokens: projection, position embedding and class tokens, on packed sequences."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import Pooling

CACHED_GRIDS = 32


def class_positions(pooling: Pooling, patches: int) -> tuple[int, ...]:
    """Where the class tokens stand in the sequence of an image of ``patches`` patches."""
    return {"middle": (patches // 2,), "head": (0,), "double": (0, patches + 1)}.get(pooling, ())


def token_boundaries(
    pooling: Pooling, grids: tuple[tuple[int, int], ...], device: torch.device
) -> Tensor:
    """``cu_seqlens`` ``[N + 1]`` int32 of sequences that hold patches and class tokens."""
    lengths = [rows * cols for rows, cols in grids]
    lengths = [length + len(class_positions(pooling, length)) for length in lengths]
    boundaries = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return boundaries.to(device)


def class_rows(pooling: Pooling, grids: tuple[tuple[int, int], ...]) -> list[tuple[int, ...]]:
    """For every image the rows of its class tokens among the packed tokens."""
    rows, begin = [], 0
    for grid_rows, grid_cols in grids:
        patches = grid_rows * grid_cols
        positions = class_positions(pooling, patches)
        rows.append(tuple(begin + position for position in positions))
        begin += patches + len(positions)
    return rows


class Embedding:
    """What is added to the projected patches, for any grid.

    An image's *constants* are the position embedding of its whole sequence plus its class tokens;
    they depend on the grid alone and are cached for the grids seen last.

    Args:
        pos_embed: ``[1, tokens, D]`` for the grid that the model was trained for.
        class_tokens: ``[1, 1, D]`` each, as many as ``pooling`` has.
        grid: the (rows, columns) that ``pos_embed`` belongs to.
    """

    def __init__(
        self,
        pos_embed: Tensor,
        class_tokens: Sequence[Tensor],
        grid: tuple[int, int],
        pooling: Pooling,
    ) -> None:
        self._pos_embed = pos_embed.detach()[0]
        self._class_tokens = [token.detach()[0] for token in class_tokens]
        self._grid = grid
        self._pooling = pooling
        self._constants = functools.lru_cache(maxsize=CACHED_GRIDS)(self._make_constants)

    def __call__(self, projected: Tensor, grids: tuple[tuple[int, int], ...]) -> Tensor:
        """Projected patches ``[T_patches, D]`` to tokens ``[T, D]``, class tokens in place."""
        tokens = torch.cat([self._constants(grid) for grid in grids])
        rows = torch.ones(len(tokens), dtype=torch.bool)
        rows[[row for image in class_rows(self._pooling, grids) for row in image]] = False
        return tokens.index_add_(0, rows.nonzero()[:, 0].to(tokens.device), projected)

    def _make_constants(self, grid: tuple[int, int]) -> Tensor:
        trained, wanted = self._grid[0] * self._grid[1], grid[0] * grid[1]
        taken = class_positions(self._pooling, trained)
        is_patch = torch.ones(len(self._pos_embed), dtype=torch.bool)
        is_patch[list(taken)] = False
        patches = self._resize(self._pos_embed[is_patch], grid)
        constants = patches.new_empty(wanted + len(taken), patches.shape[1])
        placed = class_positions(self._pooling, wanted)
        is_patch = torch.ones(len(constants), dtype=torch.bool)
        is_patch[list(placed)] = False
        constants[is_patch] = patches
        for old, new, token in zip(taken, placed, self._class_tokens, strict=True):
            constants[new] = self._pos_embed[old] + token[0]
        return constants

    def _resize(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        if grid == self._grid:
            return patches
        square = patches.float().T.reshape(1, -1, *self._grid)
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T.to(patches.dtype)
