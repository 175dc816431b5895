"""The rotary embedding whose tables a checkpoint holds."""

import math

import torch
from torch import Tensor

from vimserve.model.checkpoint import CheckpointError
from vimserve.model.families.vim.choices import Turned, square
from vimserve.model.families.vim.config import Rope, VimConfig
from vimserve.model.families.vim.rope import rates

# Above the rounding of bfloat16, and below what another base or order of the channels makes.
BOUND = 0.02


def read_rope(state: dict[str, Tensor], width: int, turned: Turned) -> Rope:
    """The rotary embedding whose cosines and sines ``[L * L, D]`` a checkpoint holds.

    Args:
        state: has the tables, with values.
        width: D, of a token.
        turned: what it turns, which the tables do not tell.

    Raises:
        CheckpointError: if they are not the tables of Vim's published code.
    """
    cos, sin = (state.get(f"rope.freqs_{name}") for name in ("cos", "sin"))
    if cos is None or sin is None or cos.ndim != 2 or cos.shape != sin.shape:
        raise CheckpointError("RoPE's tables, rope.freqs_cos and rope.freqs_sin, do not fit")
    side = square(len(cos), 0)
    if side < 2 or cos.shape[1] != width:
        raise CheckpointError(
            f"RoPE's tables are {list(cos.shape)}, not a square number of rows for tokens of "
            f"{width} channels"
        )
    cos, sin = cos.double(), sin.double()
    if not (cos.isfinite().all() and sin.isfinite().all()):
        raise CheckpointError("RoPE's tables have numbers that are not finite")
    # The second row is of the patch in row 0 and column 1.
    angles = torch.atan2(sin[1], cos[1])[width // 2 :: 2]
    span = round(side * _position(angles, rates(width)[1, width // 4 :]))
    for table, expected in zip((cos, sin), _tables(side, width, span), strict=True):
        if (table - expected).abs().max() > BOUND:
            raise CheckpointError("RoPE's tables are not those of the published code")
    return Rope(float(span), residual=turned == "both")


def make_tables(config: VimConfig) -> dict[str, Tensor]:
    """The tables that a checkpoint of such a model holds; none without rotary embedding.

    They are those of a square grid, by which ``read_rope`` tells the embedding.
    """
    if config.rope is None:
        return {}
    cos, sin = _tables(config.grid[0], config.width, config.rope.span)
    return {"rope.freqs_cos": cos.float(), "rope.freqs_sin": sin.float()}


def _tables(side: int, width: int, span: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[side * side, width]`` of a square grid, float64."""
    indices = torch.arange(side, dtype=torch.float64) * (span / side)
    angles = torch.cartesian_prod(indices, indices) @ rates(width)
    pairs = angles.repeat_interleave(2, 1)
    return pairs.cos(), pairs.sin()


def _position(angles: Tensor, of_axis: Tensor) -> float:
    """The position whose products with the rates are ``angles``, the fastest rate's first.

    An angle is known but for whole turns. The slowest rate makes less than one, and each estimate
    tells the turns of the next faster rate.
    """
    position = 0.0
    for angle, rate in zip(reversed(angles.tolist()), reversed(of_axis.tolist()), strict=True):
        turns = round((position * rate - angle) / math.tau)
        position = (angle + math.tau * turns) / rate
    return position
