"""Bilinear upsampling of class scores + arg max, without storing the upsampled scores."""

import importlib

from torch import Tensor

from vimserve.kernels.checks import FLOATS
from vimserve.kernels.dispatch import chosen, implementation
from vimserve.kernels.lerp import Lerp

MOST_CLASSES = 256


def upsample_argmax(
    scores: Tensor, size: tuple[int, int], *, probability: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The likeliest class of every pixel, from class scores on a coarser or finer grid.

    The scores are interpolated in float32 as ``torch.nn.functional.interpolate`` does with
    ``mode="bilinear"`` and ``align_corners=False``. Of equal scores the lowest class wins.

    Args:
        scores: ``[K, h, w]``, K at most 256. Fastest where the classes of a position lie side by
            side, as in a channels-last image; any other layout is copied first.
        size: (height, width) of the result.
        probability: whether to return the winners' probabilities: the softmax over the
            interpolated scores.

    Returns:
        Classes, uint8 ``[H, W]``; probabilities, float32 ``[H, W]``, or None.

    Raises:
        ValueError: if a shape, size or dtype is not supported; the message names it.
    """
    _check(scores, size)
    return implementation("upsample_argmax", scores.device.type)(
        scores, size, probability=probability
    )


def upsample_argmax_band(
    scores: Tensor, first: int, height: int, size: tuple[int, int], rows: tuple[int, int]
) -> Tensor:
    """Some rows of what ``upsample_argmax`` returns for scores of which only these rows are there.

    Args:
        scores: ``[K, n, w]`` on the CPU, float32: the rows from ``first`` on of ``[K, height, w]``.
        first: row of the whole scores.
        height: rows of the whole scores.
        size: (height, width) of the whole result.
        rows: (first, last + 1) of the result; they lie between rows that are there.

    Returns:
        Classes, uint8 ``[rows[1] - rows[0], W]``.

    Raises:
        ValueError: as ``upsample_argmax``, or if rows of scores are missing.
    """
    _check(scores, size)
    table = Lerp.of(height, size[0]).between(*rows)
    if table.first[0] < first or table.second[-1] >= first + scores.shape[1]:
        raise ValueError(
            f"rows {rows[0]} to {rows[1]} of {size[0]} need the rows {table.first[0]} to "
            f"{table.second[-1] + 1} of {height}, not {first} to {first + scores.shape[1]}"
        )
    name = "cpu" if chosen("cpu") == "cpu" else "naive"
    module = importlib.import_module(f"vimserve.kernels.upsample_argmax.{name}")
    columns = Lerp.of(scores.shape[2], size[1])
    return module.upsample_argmax_by(scores, table.since(first), columns, probability=False)[0]


def _check(scores: Tensor, size: tuple[int, int]) -> None:
    if scores.ndim != 3 or 0 in scores.shape or scores.shape[0] > MOST_CLASSES:
        raise ValueError(
            f"scores must be [K, h, w] with 1 to {MOST_CLASSES} classes and at least one position, "
            f"not {list(scores.shape)}"
        )
    if scores.dtype not in FLOATS:
        raise ValueError(f"scores must be float32, float16 or bfloat16, not {scores.dtype}")
    if min(size) < 1:
        raise ValueError(f"size must have at least one row and one column, not {tuple(size)}")
