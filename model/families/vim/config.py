"""The architecture of a Vision Mamba as plain data; one line per published size."""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from vimserve.model.architecture import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    BackboneConfig,
    Pooling,
    check_choice,
    check_grid,
    check_least,
)

Bidirectional = Literal["ssm+conv", "ssm", "layer", "none"]


@dataclass(frozen=True)
class VimConfig(BackboneConfig):
    """A Vision Mamba (arXiv 2401.09417, section 3 and table 1).

    ``grid`` is the (rows, columns) of patches that the position embedding was trained for; images
    of other sizes get it resized. ``bidirectional`` are the strategies of the paper's ablation:
    ``ssm+conv`` is the published code's ``bimamba_type="v2"``, ``ssm`` its ``"v1"``, ``layer`` its
    ``if_bidirectional``. ``pooling`` says what the classifier reads: the class token in the middle
    of the sequence, at its head, one at each end (``double``), the mean or the last of the patch
    tokens, or the maximum of their class scores. ``pixel_mean`` and ``pixel_std`` normalise the
    channels of an image, whose pixels are from 0 to 1.

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
    pixel_mean: RGB = IMAGENET_MEAN
    pixel_std: RGB = IMAGENET_STD

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

    @property
    def inner_width(self) -> int:
        """Channels of the mixer, E = 2 D."""
        return 2 * self.width

    @property
    def dt_rank(self) -> int:
        """Width of the low-rank step size, R = ceil(D / 16)."""
        return -(-self.width // 16)

    def without_classifier(self) -> Self:
        """The same backbone with neither classifier nor class token."""
        return replace(self, num_classes=0, pooling="mean")


VIM_TINY = VimConfig(width=192)
VIM_SMALL = VimConfig(width=384)
VIM_BASE = VimConfig(width=768)
VIM_TINY_PLUS = VimConfig(width=192, stride=8, grid=(27, 27))
VIM_SMALL_PLUS = VimConfig(width=384, stride=8, grid=(27, 27))
