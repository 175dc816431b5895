"""What the tensors of a Vim, or of one of its relatives, leave open, and what is assumed then.

Vim, VideoMamba and Mamba-Reg name their tensors alike. The published training scripts name the
architecture among their arguments, as ``vim_tiny_patch16_stride8_224_bimambav2_final_pool_mean_``
``abs_pos_embed_with_midclstok_div2``. Such a name says how far the patches are apart, where the
class token stands, whether the sum of the directions is halved and which streams a rotary embedding
turns (hustvl/Vim, ``vim/models_mamba.py`` and its history: no sum was halved in the first release,
later only in the architectures named ``div2``).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from vimserve.model.architecture import class_positions
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.hints import Assumption, Hints

Relative = Literal["vim", "videomamba", "mamba-reg"]
Turned = Literal["both", "hidden"]
State = Mapping[str, Tensor]

ROPE = "rope.freqs_cos"
REGISTERS = "pos_embed_cls"
_ARGUMENTS = "by its training arguments"
_OF_VIDEOMAMBA = "with family=videomamba"
_USUAL = "as usual"
_Choice = tuple[Any, str, Any]  # the value, what speaks for it, and another one


def told(state: State) -> dict[str, Any]:
    """The options that the tensors decide themselves.

    Raises:
        CheckpointError: if they are those of a model that is not served.
    """
    embed = state.get("patch_embed.proj.weight")
    if "temporal_pos_embedding" in state or (embed is not None and embed.ndim == 5):
        raise CheckpointError("a VideoMamba for videos is not served, only its image models are")
    if "norm_f.bias" in state:
        raise CheckpointError("a Vim with LayerNorm is not served, only those with RMSNorm are")
    options: dict[str, Any] = {}
    if REGISTERS in state:
        options |= {"family": "mamba-reg", "pooling": "registers"}
    elif "cls_token_head" in state:
        options["pooling"] = "double"
    if "layers.0.mixer.A_b_log" in state:
        both = "layers.0.mixer.conv1d_b.weight" in state
        options["bidirectional"] = "ssm+conv" if both else "ssm"
    return options


def assume(state: State, hints: Hints, given: Mapping[str, Any]) -> tuple[Assumption, ...]:
    """What is assumed for the options that are neither given nor told by the tensors.

    Raises:
        CheckpointError: as ``told``, or if the family that is given is not that of the tensors.
    """
    family = given.get("family")
    if family and (family == "mamba-reg") != (REGISTERS in state):
        fact = "it has" if REGISTERS in state else "it lacks"
        raise CheckpointError(f"family={family} does not fit: {fact} Mamba-Reg's {REGISTERS}")
    return tuple(_Choices(state, hints, {**told(state), **given}).make())


def square(positions: int, class_tokens: int) -> int:
    """Rows of the square grid that so many position embeddings belong to, or 0 if there is none."""
    side = math.isqrt(max(0, positions - class_tokens))
    return side if side * side + class_tokens == positions else 0


@dataclass(frozen=True)
class _Choices:
    """The values of options, which are made one after another and depend on those before."""

    state: State
    hints: Hints
    known: dict[str, Any]  # options that are given or told, and then those that are assumed

    def make(self) -> Iterator[Assumption]:
        """Yield what is assumed for the options that are not known."""
        for option, choose in {
            "family": self._family,
            "pooling": self._pooling,
            "bidirectional": self._bidirectional,
            "divide": self._divide,
            "rope": self._rope,
            "stride": self._stride,
        }.items():
            choice = None if option in self.known else choose()
            if choice:
                value, why, otherwise = choice
                self.known[option] = value
                yield Assumption(option, value, why, otherwise)

    def _family(self) -> _Choice:
        name = self.hints.trained_as
        if "videomamba" in name:
            return "videomamba", _ARGUMENTS, "vim"
        if name.startswith("vim"):
            return "vim", _ARGUMENTS, "videomamba"
        if "videomamba" in self.hints.file.lower():
            return "videomamba", "by the file's name", "vim"
        return "vim", _USUAL, "videomamba"

    def _pooling(self) -> _Choice:
        name = self.hints.trained_as
        if "cls_token" not in self.state:
            if "final_pool_max" in name:
                return "max", _ARGUMENTS, "mean"
            return "mean", _ARGUMENTS if "final_pool_mean" in name else _USUAL, "max"
        if self.known["family"] == "videomamba":
            return "head", _OF_VIDEOMAMBA, "middle"
        if "midclstok" in name or "middle_cls_token" in name:
            return "middle", _ARGUMENTS, "head"
        if "with_cls_token" in name:
            return "head", _ARGUMENTS, "middle"
        return "middle", _USUAL, "head"

    def _bidirectional(self) -> _Choice:
        return "none", _USUAL, "layer"

    def _divide(self) -> _Choice | None:
        """Only where each direction has its own convolution has a sum ever been halved."""
        if self.known["bidirectional"] != "ssm+conv" or self.known["family"] == "mamba-reg":
            return None
        if self.known["family"] == "videomamba":
            return False, _OF_VIDEOMAMBA, True
        if "bimambav2" in self.hints.trained_as:
            divide = "div2" in self.hints.trained_as
            return divide, _ARGUMENTS, not divide
        # The backbone of a segmenter has no class token either, but is of a later release.
        classifies = len(self.state.get("head.weight", ())) > 0
        if ROPE in self.state and classifies and self.known["pooling"] in ("mean", "max", "last"):
            return False, "as in Vim's first release", True
        return True, _USUAL, False

    def _rope(self) -> _Choice | None:
        if ROPE not in self.state:
            return None
        if "rope" not in self.hints.trained_as:
            return "both", _USUAL, "hidden"
        if "rope_also_residual" in self.hints.trained_as:
            return "both", _ARGUMENTS, "hidden"
        return "hidden", _ARGUMENTS, "both"

    def _stride(self) -> _Choice | None:
        embed, table = self.state.get("patch_embed.proj.weight"), self.state.get("pos_embed")
        if embed is None or table is None or table.ndim != 3:
            return None
        patch = embed.shape[-1]
        if named := re.search(r"stride(\d+)", self.hints.trained_as):
            stride = int(named[1])
            return stride, _ARGUMENTS, patch // 2 if stride == patch else patch
        side = square(table.shape[1], len(class_positions(self.known["pooling"], 0)))
        why = f"by its {side} rows of patches"
        # An odd number means overlapping patches, half a patch apart (27 are 224 pixels at 8).
        if side % 2 and side > 1:
            return patch // 2, why, patch
        return patch, why, patch // 2
