"""The squares of tokens that attend to each other in ViTDet's blocks with windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.model.layout import Grid


@dataclass(frozen=True, eq=False)
class Windows:
    """Where the tokens of a packed batch lie in windows, on the model's device.

    Every image is cut from its upper left corner on, and windows that reach beyond its right or
    lower edge are filled up there (arXiv 2203.16527). So all W windows of all images have one size,
    and go through one call.

    Attributes:
        side: of a window, in tokens.
        sources: ``[W * side * side]``, for every place in a window the row of its token among the
            ``T`` packed tokens, or ``T`` where there is none.
        places: ``[T]``, the place of every token.
    """

    side: int
    sources: Tensor
    places: Tensor

    @classmethod
    def of(cls, grids: Sequence[Grid], side: int, device: torch.device) -> "Windows":
        """The windows of images with these grids of tokens, without waiting for the device."""
        places, before = [], 0
        for rows, cols in grids:
            down, across = -(-rows // side), -(-cols // side)
            y = torch.arange(rows, device=device)[:, None]
            x = torch.arange(cols, device=device)
            window = before + y // side * across + x // side
            places.append(((window * side + y % side) * side + x % side).flatten())
            before += down * across
        of_tokens = torch.cat(places)
        tokens = torch.arange(len(of_tokens), device=device)
        sources = tokens.new_full((before * side * side,), len(tokens))
        return cls(side, sources.index_copy_(0, of_tokens, tokens), of_tokens)
