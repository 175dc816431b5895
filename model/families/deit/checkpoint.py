"""The architecture that a DeiT checkpoint belongs to."""

import math

from torch import Tensor

from vimserve.model.checkpoint import CheckpointError, count_blocks
from vimserve.model.families.deit.config import Attention, DeiTConfig

HEAD_WIDTH = 64


def infer_deit_config(
    state: dict[str, Tensor], *, attention: Attention = "fused", heads: int | None = None
) -> DeiTConfig:
    """The architecture that a DeiT state dict with timm's names belongs to.

    Shapes tell neither how attention is computed nor the number of heads.

    Args:
        state: the tensors; the grid of the position embedding must be square.
        attention: how it is computed.
        heads: by default one for every 64 channels, as in all published sizes.

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
    width = embed.shape[0]
    if heads is None and width % HEAD_WIDTH:
        raise CheckpointError(
            f"width {width} is no multiple of {HEAD_WIDTH}: say how many heads with heads=N"
        )
    side = math.isqrt(pos.shape[1] - 1)
    if side < 1 or side * side + 1 != pos.shape[1]:
        raise CheckpointError(
            f"pos_embed has {pos.shape[1]} tokens, which is no square grid and a class token"
        )
    try:
        return DeiTConfig(
            width=width,
            depth=count_blocks(state, "blocks"),
            heads=width // HEAD_WIDTH if heads is None else heads,
            mlp_ratio=hidden // width,
            patch_size=embed.shape[2],
            num_classes=classes,
            grid=(side, side),
            attention=attention,
        )
    except ValueError as error:
        raise CheckpointError(f"not a DeiT that can be served: {error}") from error
