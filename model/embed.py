"""Patches to tokens: projection, position embedding and class tokens, on packed sequences."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.architecture import BackboneConfig
from vimserve.model.layout import Grid, Layout
from vimserve.model.linear import PreparedLinear

CACHED_GRIDS = 32
# A pixel minus this is a number from -128 to 127, which bfloat16 holds exactly. These numbers are
# centred near zero like normalised pixels, so that rounded weights cost no more precision than they
# do with those.
MIDDLE_GREY = 128


class PatchProjection:
    """Patches ``[T, 3 * P * P]`` to ``[T, D]``, normalised on the way if they are pixels.

    Normalisation scales and shifts each channel, so it becomes part of the projection:
    ``W ((p / 255 - mean) / std) + b`` is ``W' (p - 128) + b'``. Only bytes are sent to the device,
    and no normalised image is ever made.

    Args:
        convolution: its weight ``[D, 3, P, P]`` and bias ``[D]`` are the projection.
        mean: of each channel, for pixels from 0 to 1.
        std: likewise, the standard deviation.
    """

    def __init__(self, convolution: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
        weight, bias = convolution.weight, convolution.bias
        assert bias is not None
        self._dtype = weight.dtype
        self._normalised = PreparedLinear(weight.flatten(1), bias)
        exact, mean64, std64 = (
            torch.as_tensor(values, dtype=torch.float64, device=weight.device)
            for values in (weight.detach(), mean, std)
        )
        offset = (MIDDLE_GREY / 255 - mean64) / std64
        shift = (exact.sum((2, 3)) * offset).sum(1)
        self._pixels = PreparedLinear(
            (exact / (255 * std64[:, None, None])).flatten(1).to(weight.dtype),
            (bias.detach().double() + shift).to(bias.dtype),
        )

    def __call__(self, patches: Tensor) -> Tensor:
        """Project uint8 pixels, or floats that are normalised already."""
        if patches.dtype == torch.uint8:
            # XOR with 128 gives the bits of the int8 p - 128, without a larger type in between.
            return self._pixels((patches ^ MIDDLE_GREY).view(torch.int8).to(self._dtype))
        return self._normalised(patches.to(self._dtype))


class Embedding:
    """What is added to the projected patches, for any grid.

    An image's *constants* are the position embedding of its whole sequence plus its class tokens.
    They depend on the grid alone, and those of the last grids are kept.

    Args:
        positions: ``[rows * columns, D]`` of the patches of the grid that ``config`` names.
        class_tokens: ``[c, D]``, their own position embeddings added.
        config: says where the class tokens stand.
        antialias: widen the filter when the grid shrinks, as timm does and Vim does not.
    """

    def __init__(
        self,
        positions: Tensor,
        class_tokens: Tensor,
        config: BackboneConfig,
        *,
        antialias: bool = False,
    ) -> None:
        self._positions = positions
        self._class_tokens = class_tokens
        self._config = config
        self._antialias = antialias
        self._constants = functools.lru_cache(maxsize=CACHED_GRIDS)(self._make_constants)

    def __call__(self, projected: Tensor, grids: Sequence[Grid], layout: Layout) -> Tensor:
        """Projected patches ``[T_patches, D]`` to tokens ``[T, D]``, class tokens in place."""
        tokens = torch.cat([self._constants(grid) for grid in grids])
        return tokens.index_add_(0, layout.patch_rows(len(projected)), projected)

    def _make_constants(self, grid: Grid) -> Tensor:
        places = self._config.class_positions(grid[0] * grid[1])
        pieces = self._resize(grid).tensor_split([row - i for i, row in enumerate(places)])
        constants = [pieces[0]]
        for token, piece in zip(self._class_tokens, pieces[1:], strict=True):
            constants += [token[None], piece]
        return torch.cat(constants)

    def _resize(self, grid: Grid) -> Tensor:
        patches, trained = self._positions, self._config.grid
        if grid == trained:
            return patches
        square = patches.float().T.reshape(1, -1, *trained)
        if grid[1] == 1:
            # PyTorch 2.13 with antialiasing resizes wrongly into one column on the CPU, but not
            # into one row.
            square, grid = square.mT, (1, grid[0])
        resized = F.interpolate(
            square, size=grid, mode="bicubic", align_corners=False, antialias=self._antialias
        )
        return resized[0].flatten(1).T.to(patches.dtype)
