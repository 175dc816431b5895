"""ViTDet's backbone (arXiv 2203.16527) from its formulas, image by image and query by query.

In NumPy and float64; nothing is shared with what is tested but the names of the tensors.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from vimserve.model.families.deit.config import DeiTConfig

Array = np.ndarray[Any, np.dtype[np.float64]]
State = dict[str, Array]


def backbone(tensors: Mapping[str, Tensor], config: DeiTConfig, image: Tensor) -> Array:
    """``[3, H, W]`` of whole patches, with as many as ``config.grid`` or another number of them,
    to ``[rows, columns, D]`` after the last block.
    """
    state = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    hidden = embed(state, config, image.double().numpy())
    for i in range(config.depth):
        own = {k.removeprefix(f"blocks.{i}."): v for k, v in state.items() if f"blocks.{i}." in k}
        normed = layer_norm(hidden, own, "norm1")
        last_of_quarter = i in [config.depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        if config.window and not last_of_quarter:
            mixed = attend_in_windows(normed, own, config.heads, config.window)
        else:
            mixed = attend(normed, own, config.heads)
        hidden = hidden + linear(mixed, own, "attn.proj")
        inner = linear(layer_norm(hidden, own, "norm2"), own, "mlp.fc1")
        erf = np.vectorize(math.erf)(inner / math.sqrt(2))
        hidden = hidden + linear(inner * (1 + erf) / 2, own, "mlp.fc2")
    return hidden


def embed(state: State, config: DeiTConfig, image: Array) -> Array:
    """Patches times the kernel, plus the bias and the position's row."""
    side = config.patch_size
    rows, cols = image.shape[1] // side, image.shape[2] // side
    positions = state["pos_embed"][0]
    if len(positions) != config.grid[0] * config.grid[1]:
        positions = positions[1:]  # the first is a class token's
    positions = resize(positions.reshape(*config.grid, -1), rows, cols)
    out = np.empty((rows, cols, config.width))
    for y, x in itertools.product(range(rows), range(cols)):
        patch = image[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
        out[y, x] = (state["patch_embed.proj.weight"] * patch).sum((1, 2, 3))
    return out + state["patch_embed.proj.bias"] + positions


def resize(table: Array, rows: int, cols: int) -> Array:
    """Keys' cubic convolution with a = −3/4 between pixel centres, edges repeated."""
    for axis, size in enumerate((rows, cols)):
        if table.shape[axis] == size:
            continue
        given = np.moveaxis(table, axis, 0)
        new = np.zeros((size, *given.shape[1:]))
        for i in range(size):
            place = (i + 0.5) * len(given) / size - 0.5
            for j in range(math.floor(place) - 1, math.floor(place) + 3):
                new[i] += cubic(abs(place - j)) * given[min(max(j, 0), len(given) - 1)]
        table = np.moveaxis(new, 0, axis)
    return table


def cubic(t: float, a: float = -0.75) -> float:
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def attend_in_windows(x: Array, own: State, heads: int, side: int) -> Array:
    """Attention in squares from the upper left corner on, beyond the edges filled with zeros."""
    rows, cols, width = x.shape
    padded = np.zeros((-(-rows // side) * side, -(-cols // side) * side, width))
    padded[:rows, :cols] = x
    for y in range(0, len(padded), side):
        for x0 in range(0, padded.shape[1], side):
            square = np.s_[y : y + side, x0 : x0 + side]
            padded[square] = attend(padded[square], own, heads)
    return padded[:rows, :cols]


def attend(x: Array, own: State, heads: int) -> Array:
    """Each query with each key of a grid, ``[rows, columns, D]`` to the same."""
    rows, cols, width = x.shape
    qkv = linear(x, own, "attn.qkv").reshape(rows, cols, 3, heads, width // heads)
    out = np.empty((rows, cols, heads, width // heads))
    down, across = (
        lengthen(own[f"attn.rel_pos_{axis}"], 2 * size - 1) if "attn.rel_pos_h" in own else None
        for axis, size in (("h", rows), ("w", cols))
    )
    for head, y, x0 in itertools.product(range(heads), range(rows), range(cols)):
        query = qkv[y, x0, 0, head]
        scores = np.empty((rows, cols))
        for key_y, key_x in itertools.product(range(rows), range(cols)):
            score = query @ qkv[key_y, key_x, 1, head] / math.sqrt(width // heads)
            if down is not None and across is not None:
                score += query @ down[y - key_y + rows - 1] + query @ across[x0 - key_x + cols - 1]
            scores[key_y, key_x] = score
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[y, x0, head] = (weights[..., None] * qkv[:, :, 2, head]).sum((0, 1))
    return out.reshape(rows, cols, width)


def lengthen(table: Array, size: int) -> Array:
    """A straight line between the centres of the rows, edges repeated."""
    places = (np.arange(size) + 0.5) * len(table) / size - 0.5
    columns = [np.interp(places, np.arange(len(table)), column) for column in table.T]
    return np.stack(columns, 1)


def linear(x: Array, own: State, name: str) -> Array:
    return x @ own[f"{name}.weight"].T + own[f"{name}.bias"]


def layer_norm(x: Array, own: State, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normed * own[f"{name}.weight"] + own[f"{name}.bias"]
