"""The architecture of a Vision Mamba as plain data; one line per published size."""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from vimserve.model.architecture import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    Pooling,
    Readout,
    TokensConfig,
    check_choice,
    check_grid,
    check_least,
    check_readout,
)

Bidirectional = Literal["ssm+conv", "ssm", "layer", "none"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding in two dimensions, before every block.

    Attributes:
        span: what the patches of an axis lie in: of L patches, the p-th counts as p span / L.
        residual: whether the residual turns as well as the hidden state.

    Raises:
        ValueError: if ``span`` is not above zero.
    """

    span: float = 14.0
    residual: bool = True

    def __post_init__(self) -> None:
        if not self.span > 0:
            raise ValueError(f"the span of RoPE must be above zero, not {self.span}")


@dataclass(frozen=True)
class VimConfig(TokensConfig):
    """A Vision Mamba (arXiv 2401.09417, section 3 and table 1).

    ``grid`` is the (rows, columns) of patches that the position embedding was trained for; images
    of other sizes get it resized. ``bidirectional`` are the strategies of the paper's ablation:
    ``ssm+conv`` is the published code's ``bimamba_type="v2"``, ``ssm`` its ``"v1"``, ``layer`` its
    ``if_bidirectional``. ``pooling`` says what the classifier reads: the class token in the middle
    of the sequence, at its head, one at each end (``double``), the mean or the last of the patch
    tokens, or the maximum of their class scores. ``pixel_mean`` and ``pixel_std`` normalise the
    channels of an image, whose pixels are from 0 to 1.

    Of Vim's relatives, VideoMamba (arXiv 2403.06977) has its class token at the head and adds the
    two directions of ``ssm+conv`` without halving the sum: ``divide`` is false. Mamba-Reg
    (arXiv 2405.14858) has ``registers`` class tokens, evenly spread among the patches, all of which
    ``pooling="registers"`` reads; ``reduce`` divides their width first. Vim's first release turned
    its tokens' channels by their places: ``rope``. A classifier that was trained on the frozen
    backbone may have another ``readout``.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    width: int = 192
    depth: int = 24
    patch_size: int = 16
    stride: int = 16
    states: int = 16
    num_classes: int = 1000
    grid: tuple[int, int] = (14, 14)
    bidirectional: Bidirectional = "ssm+conv"
    pooling: Pooling = "middle"
    divide: bool = True
    rope: Rope | None = None
    registers: int = 0
    reduce: int = 1
    pixel_mean: RGB = IMAGENET_MEAN
    pixel_std: RGB = IMAGENET_STD
    readout: Readout = "class"

    def __post_init__(self) -> None:
        check_least(self, 1, "width", "depth", "patch_size", "stride", "states")
        check_least(self, 0, "num_classes")
        if self.width % 16:
            raise ValueError(f"width must be a multiple of 16, not {self.width}")
        if self.states % 8:
            raise ValueError(f"states must be a multiple of 8, not {self.states}")
        if self.stride > self.patch_size:
            raise ValueError(
                f"stride {self.stride} is larger than the patch ({self.patch_size}): "
                "pixels would go unread"
            )
        check_grid(self.grid)
        check_choice(self, "bidirectional", get_args(Bidirectional))
        check_choice(self, "pooling", get_args(Pooling))
        if self.bidirectional == "layer" and self.depth % 2:
            raise ValueError(
                f"bidirectional='layer' pairs the layers: depth must be even, not {self.depth}"
            )
        self._check_registers()
        check_readout(self)

    def _check_registers(self) -> None:
        if (self.pooling == "registers") != (self.registers > 0):
            raise ValueError(
                f"pooling='registers' needs registers, and registers need it: there are "
                f"{self.registers} with pooling={self.pooling!r}"
            )
        check_least(self, 1, "reduce")
        if self.registers % self.reduce or self.width % self.reduce:
            raise ValueError(
                f"reduce={self.reduce} must divide the {self.registers} registers and the width "
                f"{self.width}"
            )
        if self.registers and self.rope:
            raise ValueError("registers with rotary position embeddings (RoPE) are not served")

    @property
    def inner_width(self) -> int:
        """Channels of the mixer, E = 2 D."""
        return 2 * self.width

    @property
    def dt_rank(self) -> int:
        """Width of the low-rank step size, R = ceil(D / 16)."""
        return -(-self.width // 16)

    @property
    def rotary(self) -> bool:
        """Whether the channels of every token turn by its place in the grid."""
        return self.rope is not None

    @property
    def positions(self) -> int:
        """Rows of ``pos_embed``; registers have a table of their own."""
        return super().positions - self.registers

    @property
    def class_width(self) -> int:
        """Width of what the published classifier reads."""
        if self.registers:
            return self.registers * self.width // self.reduce
        return self.width

    def class_positions(self, patches: int) -> tuple[int, ...]:
        """Where the class tokens stand: each register behind so many patches as the others."""
        if self.registers:
            step = patches // (self.registers + 1) + 1
            return tuple(range(step - 1, step * self.registers, step))
        return super().class_positions(patches)

    def without_classifier(self) -> Self:
        """The same backbone with neither classifier nor class token.

        Raises:
            ValueError: if it has registers, which the patches read.
        """
        if self.registers:
            raise ValueError("a backbone with registers (Mamba-Reg) is not served")
        return replace(self, num_classes=0, pooling="mean", readout="class")


VIM_TINY = VimConfig(width=192)
VIM_SMALL = VimConfig(width=384)
VIM_BASE = VimConfig(width=768)
VIM_TINY_PLUS = VimConfig(width=192, stride=8, grid=(27, 27))
VIM_SMALL_PLUS = VimConfig(width=384, stride=8, grid=(27, 27))

VIDEOMAMBA_TINY = VimConfig(width=192, pooling="head", divide=False)
VIDEOMAMBA_SMALL = replace(VIDEOMAMBA_TINY, width=384)
VIDEOMAMBA_MIDDLE = replace(VIDEOMAMBA_TINY, width=576, depth=32)
VIDEOMAMBA_BASE = replace(VIDEOMAMBA_TINY, width=768)
