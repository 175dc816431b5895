"""The architecture that a Vim checkpoint belongs to."""

import math

from torch import Tensor

from vimserve.model.architecture import Pooling, class_positions
from vimserve.model.checkpoint import CheckpointError, count_blocks
from vimserve.model.families.vim.config import Bidirectional, VimConfig


def infer_vim_config(
    state: dict[str, Tensor],
    *,
    stride: int | None = None,
    bidirectional: Bidirectional | None = None,
    pooling: Pooling | None = None,
) -> VimConfig:
    """The architecture that a Vim state dict belongs to.

    Shapes alone do not tell the stride, the pooling and, for layers that read in one direction,
    whether they take turns. Whichever of them is not given is guessed.

    Args:
        state: the tensors; the grid of the position embedding must be square.
        stride: guessed from the rows of the grid. An odd number means overlapping patches, half a
            patch apart (27 rows are 224 pixels at stride 8), an even number patches side by side.
        bidirectional: for layers that read in one direction, ``none`` rather than ``layer``.
        pooling: with one class token ``middle`` rather than ``head``, with none ``mean``.

    Raises:
        CheckpointError: if the tensors are not a Vim's.
    """
    if any("rope" in name for name in state):
        raise CheckpointError("rotary position embeddings (RoPE) are not supported")
    try:
        embed, pos = state["patch_embed.proj.weight"], state["pos_embed"]
        rates, classes = state["layers.0.mixer.A_log"], len(state["head.weight"])
    except KeyError as error:
        raise CheckpointError(f"not a Vim checkpoint: it has no tensor {error}") from error
    if embed.ndim != 4 or pos.ndim != 3 or rates.ndim != 2:
        raise CheckpointError("not a Vim checkpoint: its embeddings have other dimensions")
    patch_size = embed.shape[2]
    if pooling is None:
        pooling = "middle" if "cls_token" in state else "mean"
        if "cls_token_head" in state:
            pooling = "double"
    if bidirectional is None:
        bidirectional = "none"
        if "layers.0.mixer.A_b_log" in state:
            bidirectional = "ssm+conv" if "layers.0.mixer.conv1d_b.weight" in state else "ssm"
    class_tokens = len(class_positions(pooling, 0))
    side = math.isqrt(pos.shape[1] - class_tokens)
    if side < 1 or side * side + class_tokens != pos.shape[1]:
        raise CheckpointError(
            f"pos_embed has {pos.shape[1]} tokens, which is no square grid and "
            f"{class_tokens} class token(s): pooling={pooling} does not fit"
        )
    if stride is None:
        stride = patch_size // 2 if side % 2 and side > 1 else patch_size
    try:
        return VimConfig(
            width=embed.shape[0],
            depth=count_blocks(state, "layers"),
            patch_size=patch_size,
            stride=stride,
            states=rates.shape[1],
            num_classes=classes,
            grid=(side, side),
            bidirectional=bidirectional,
            pooling=pooling,
        )
    except ValueError as error:
        raise CheckpointError(f"not a Vim that can be served: {error}") from error
