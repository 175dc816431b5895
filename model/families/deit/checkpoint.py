"""The architecture that a DeiT checkpoint belongs to."""

import math

from torch import Tensor

from vimserve.model.architecture import Readout
from vimserve.model.checkpoint import CheckpointError, count_blocks
from vimserve.model.families.deit.config import Attention, DeiTConfig
from vimserve.model.layout import Grid

HEAD_WIDTH = 64


def infer_deit_config(
    state: dict[str, Tensor],
    *,
    attention: Attention = "fused",
    heads: int | None = None,
    window: int | None = None,
    readout: Readout = "class",
) -> DeiTConfig:
    """The architecture that a DeiT state dict with timm's names belongs to.

    Shapes tell neither how attention is computed nor the number of heads, and whether it is
    computed in windows only if there are relative positions.

    Args:
        state: the tensors; the grid of the position embedding must be square. Without ``cls_token``
            they are those of a detector's backbone, as ViTDet's.
        attention: how it is computed.
        heads: by default one for every 64 channels, as in all published sizes.
        window: side of the windows in patches, 0 for none; by default what relative positions
            tell, and without them none.
        readout: what the classifier reads.

    Raises:
        CheckpointError: if the tensors are not a DeiT's, or those of a distilled one.
    """
    if "dist_token" in state:
        raise CheckpointError("distilled DeiT checkpoints (with a dist_token) are not supported")
    try:
        embed, pos = state["patch_embed.proj.weight"], state["pos_embed"]
        hidden, classes = len(state["blocks.0.mlp.fc1.weight"]), len(state["head.weight"])
    except KeyError as error:
        raise CheckpointError(f"not a DeiT checkpoint: it has no tensor {error}") from error
    if embed.ndim != 4 or pos.ndim != 3:
        raise CheckpointError("not a DeiT checkpoint: its embeddings have other dimensions")
    width, depth = embed.shape[0], count_blocks(state, "blocks")
    if heads is None and width % HEAD_WIDTH:
        raise CheckpointError(
            f"width {width} is no multiple of {HEAD_WIDTH}: say how many heads with heads=N"
        )
    class_token = "cls_token" in state
    side, class_position = _split(pos.shape[1], class_token)
    rel_pos, found = _relative_positions(state, depth)
    if None not in (window, found) and window != found:
        raise CheckpointError(
            f"window={window}, but its relative positions are those of "
            f"{f'windows of {found}' if found else 'attention without windows'}"
        )
    try:
        return DeiTConfig(
            width=width,
            depth=depth,
            heads=width // HEAD_WIDTH if heads is None else heads,
            mlp_ratio=hidden // width,
            patch_size=embed.shape[2],
            num_classes=classes,
            grid=(side, side),
            attention=attention,
            class_token=class_token,
            class_position=class_position,
            window=window or found or 0,
            rel_pos=rel_pos,
            readout=readout,
        )
    except ValueError as error:
        raise CheckpointError(f"not a DeiT that can be served: {error}") from error


def _split(rows: int, class_token: bool) -> tuple[int, bool]:
    """The side of the grid, and whether there is a row for a class token, of so many positions.

    Raises:
        CheckpointError: if the rest is no square.
    """
    for of_class in (True,) if class_token else (False, True):
        side = math.isqrt(rows - of_class)
        if side >= 1 and side * side + of_class == rows:
            return side, of_class
    beside = "and a class token" if class_token else "with or without a class token"
    raise CheckpointError(f"pos_embed has {rows} tokens, which is no square grid {beside}")


def _relative_positions(
    state: dict[str, Tensor], depth: int
) -> tuple[tuple[int, int] | None, int | None]:
    """The grid of the relative positions, and the side of the windows; None without such.

    The last block has no windows, and the first one has them if there are any. If the tables of
    both are of one size, there are none.
    """
    first, last = (_tables(state, block) for block in (0, depth - 1))
    if first is None or last is None:
        return None, None
    return last, 0 if first == last else first[0]


def _tables(state: dict[str, Tensor], block: int) -> Grid | None:
    """The rows and columns that the tables of a block were made for."""
    tables = [state.get(f"blocks.{block}.attn.rel_pos_{axis}") for axis in "hw"]
    sizes = [(len(table) + 1) // 2 for table in tables if table is not None]
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None
