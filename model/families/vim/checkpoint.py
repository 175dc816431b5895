"""The architecture that a checkpoint of Vim, or of one of its relatives, belongs to."""

from typing import Any

from torch import Tensor

from vimserve.model.architecture import Pooling, Readout, class_positions
from vimserve.model.checkpoint import CheckpointError, count_blocks
from vimserve.model.families.vim.choices import (
    REGISTERS,
    ROPE,
    Relative,
    Turned,
    assume,
    square,
    told,
)
from vimserve.model.families.vim.config import Bidirectional, VimConfig
from vimserve.model.families.vim.rope_tables import read_rope
from vimserve.model.hints import Hints


def infer_vim_config(
    state: dict[str, Tensor],
    *,
    stride: int | None = None,
    bidirectional: Bidirectional | None = None,
    pooling: Pooling | None = None,
    divide: bool | None = None,
    rope: Turned | None = None,
    family: Relative | None = None,
    readout: Readout = "class",
) -> VimConfig:
    """The architecture that a state dict of Vim, VideoMamba or Mamba-Reg belongs to.

    Shapes alone do not tell all of it. Whatever is not given is assumed (``choices.assume``).

    Args:
        state: the tensors, of which the rotary embedding's need values; the grid of the position
            embedding must be square.
        stride: from one patch to the next, in pixels.
        bidirectional: for layers that read in one direction, whether they take turns.
        pooling: where the class token stands, or what is made of the patches without one.
        divide: whether the sum of two directions is halved.
        rope: what a rotary embedding turns, the hidden state alone or the residual as well.
        family: decides what is usual for the others.
        readout: what the classifier reads.

    Raises:
        CheckpointError: if the tensors are not such a model's.
    """
    given = {
        "stride": stride, "bidirectional": bidirectional, "pooling": pooling, "divide": divide,
        "rope": rope, "family": family,
    }  # fmt: skip
    given = {option: value for option, value in given.items() if value is not None}
    known = told(state) | {a.option: a.value for a in assume(state, Hints(), given)} | given
    try:
        embed, pos = state["patch_embed.proj.weight"], state["pos_embed"]
        rate, classes = state["layers.0.mixer.A_log"], len(state["head.weight"])
    except KeyError as error:
        raise CheckpointError(f"not a Vim checkpoint: it has no tensor {error}") from error
    if embed.ndim != 4 or pos.ndim != 3 or rate.ndim != 2:
        raise CheckpointError("not a Vim checkpoint: its embeddings have other dimensions")
    class_tokens = len(class_positions(known["pooling"], 0))
    side = square(pos.shape[1], class_tokens)
    if side < 1:
        raise CheckpointError(
            f"pos_embed has {pos.shape[1]} tokens, which is no square grid and "
            f"{class_tokens} class token(s): pooling={known['pooling']} does not fit"
        )
    try:
        return VimConfig(
            width=embed.shape[0],
            depth=count_blocks(state, "layers"),
            patch_size=embed.shape[2],
            stride=known["stride"],
            states=rate.shape[1],
            num_classes=classes,
            grid=(side, side),
            bidirectional=known["bidirectional"],
            pooling=known["pooling"],
            divide=known.get("divide", True),
            rope=read_rope(state, embed.shape[0], known["rope"]) if ROPE in state else None,
            readout=readout,
            **_registers(state),
        )
    except ValueError as error:
        raise CheckpointError(f"not a Vim that can be served: {error}") from error


def unused(config: VimConfig) -> tuple[str, ...]:
    """How the names begin of tensors in a published file that the model does without."""
    # The head of a self-distilled VideoMamba is for training. RoPE's tables are computed.
    return ("distill_head.", "rope.") if config.rope else ("distill_head.",)


def _registers(state: dict[str, Tensor]) -> dict[str, Any]:
    if REGISTERS not in state:
        return {}
    table, neck = state[REGISTERS], state.get("neck.weight")
    if table.ndim != 3 or (neck is not None and (neck.ndim != 2 or not len(neck))):
        raise CheckpointError("not a Mamba-Reg checkpoint: its registers have other dimensions")
    return {
        "registers": table.shape[1],
        "reduce": 1 if neck is None else table.shape[2] // len(neck),
    }
