"""Attention that adds to each score what the query says of the key's relative position.

A key that is ``dy`` rows above and ``dx`` columns to the left of the query ``q`` gets
``q · H[dy] + q · W[dx]`` added to its score, from two tables with a row for each distance
(arXiv 2112.01526, section 4.1; ViTDet, arXiv 2203.16527, has it too).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vimserve.model.layout import Grid

# So many additions exist at once, in float32 16 MB: those of some of the queries. With fewer, a CPU
# reads keys and values too often: at 64 x 64 tokens an eighth of it takes a third more time.
MOST_ADDED = 1 << 22


def relative_scores(q: Tensor, table: Tensor, axis: int) -> Tensor:
    """What is added for each row, or column, of the keys.

    Args:
        q: ``[N, H, rows, columns, D / H]`` queries, not scaled.
        table: ``[2 * size - 1, D / H]``, resized linearly if it is of another size.
        axis: 2 for rows, 3 for columns.

    Returns:
        ``[N, H, rows, columns, keys]``, of as many keys as there are rows or columns.
    """
    size = q.shape[axis]
    by_distance = _resize(table, 2 * size - 1)
    index = torch.arange(size, device=q.device)
    of_pairs = by_distance[index[:, None] - index + (size - 1)]  # [queries, keys, D / H]
    equation = "nhyxd,ykd->nhyxk" if axis == 2 else "nhyxd,xkd->nhyxk"
    return torch.einsum(equation, q, of_pairs)


def fused_relative_attention(
    q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor], grid: Grid
) -> Tensor:
    """``[N, H, L, D / H]`` each to the same; the ``[L, L]`` scores exist for few queries at once.

    Args:
        q: queries of the L tokens of a grid, row by row.
        k: their keys.
        v: their values.
        tables: of rows and of columns.
        grid: rows and columns.
    """
    of_rows, of_cols = _both(q, tables, grid)
    N, H, L, _ = q.shape
    step = max(1, MOST_ADDED // (N * H * L))
    mixed = torch.empty_like(v)
    for begin in range(0, L, step):
        part = slice(begin, begin + step)
        added = of_rows[:, :, part, :, None] + of_cols[:, :, part, None, :]
        mixed[:, :, part] = F.scaled_dot_product_attention(
            q[:, :, part], k, v, attn_mask=added.flatten(3)
        )
    return mixed


def eager_relative_attention(
    q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor], grid: Grid
) -> Tensor:
    """The same, by scores ``[N, H, L, L]`` that are written out."""
    of_rows, of_cols = _both(q, tables, grid)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    by_place = scores.unflatten(3, grid)
    by_place += of_rows[..., :, None]
    by_place += of_cols[..., None, :]
    return scores.softmax(-1) @ v


def _both(q: Tensor, tables: tuple[Tensor, Tensor], grid: Grid) -> tuple[Tensor, Tensor]:
    """For rows and for columns, ``[N, H, L, keys]``."""
    placed = q.unflatten(2, grid)
    of_rows, of_cols = (
        relative_scores(placed, table, axis).flatten(2, 3)
        for table, axis in zip(tables, (2, 3), strict=True)
    )
    return of_rows, of_cols


def _resize(table: Tensor, rows: int) -> Tensor:
    """``[rows, D / H]`` of a table with any number of rows."""
    if len(table) == rows:
        return table
    resized = F.interpolate(table.float().T[None], size=rows, mode="linear")
    return resized[0].T.to(table.dtype)
