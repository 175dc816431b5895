"""Rotary position embedding: where every token stands, and how fast its channels turn."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from vimserve.model.embed import CACHED_GRIDS
from vimserve.model.families.vim.config import VimConfig
from vimserve.model.layout import Grid

BASE = 10_000.0


def rates(width: int) -> Tensor:
    """``[2, D / 2]`` float64: radians by which each pair of channels turns for a unit of position.

    The first half of the pairs turns by the row, the second by the column, each at D / 4 rates.
    """
    quarter = width // 4
    of_axis = BASE ** (-2 * torch.arange(quarter, dtype=torch.float64) / (width / 2))
    return torch.block_diag(of_axis[None], of_axis[None])


class Rotary:
    """Positions and rates as ``kernels.add_norm.Turn`` takes them.

    The published code knows one square image size. It turns row i of its table with token i if the
    sequence is even, and with token i + 1 if it is odd, whatever these tokens are. So with a class
    token in the middle of an even number of patches the first patch does not turn, those before the
    middle turn as the patch before them does, and so does the class token; models were trained that
    way, and it is kept. Where the published code fails, each patch turns by its own row and column,
    each axis with its own number of patches, and class tokens do not turn.

    Args:
        config: of a model with ``rope``.
        device: of the model.

    Attributes:
        rates: ``[2, D / 2]`` float32.
    """

    def __init__(self, config: VimConfig, device: torch.device) -> None:
        assert config.rope is not None
        self._config = config
        self._span = config.rope.span
        self._device = device
        self.rates = rates(config.width).float().to(device)
        self._of_grid = functools.lru_cache(maxsize=CACHED_GRIDS)(self._make)

    def positions(self, grids: Sequence[Grid]) -> Tensor:
        """``[T, 2]`` float32: where all tokens of images with these grids stand."""
        return torch.cat([self._of_grid(grid) for grid in grids])

    def _make(self, grid: Grid) -> Tensor:
        axes = [
            torch.arange(length, dtype=torch.float64, device=self._device) * (self._span / length)
            for length in grid
        ]
        patches = torch.stack(torch.meshgrid(*axes, indexing="ij"), 2).flatten(0, 1).float()
        still = self._still(grid)
        pieces = patches.tensor_split([place - i for i, place in enumerate(still)])
        parts = [pieces[0]]
        for piece in pieces[1:]:
            parts += [patches.new_zeros(1, 2), piece]
        return torch.cat(parts)

    def _still(self, grid: Grid) -> tuple[int, ...]:
        """The tokens that do not turn, by their places in the sequence."""
        patches = grid[0] * grid[1]
        if self._config.pooling == "middle" and patches % 2 == 0:
            return (0,)
        return self._config.class_positions(patches)
