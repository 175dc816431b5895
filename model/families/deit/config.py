"""The architecture of a DeiT as plain data; one line per published size."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

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

Attention = Literal["fused", "eager"]


@dataclass(frozen=True)
class DeiTConfig(BackboneConfig):
    """A DeiT (arXiv 2012.12877), the vision transformer that Vim is measured against.

    ``attention`` is computed ``fused``, without its scores ever reaching memory (PyTorch's
    ``scaled_dot_product_attention``), or ``eager``, with the scores of all pairs of tokens written
    out, as the Vim paper measured it. ``grid``, ``pixel_mean`` and ``pixel_std`` are as in
    ``VimConfig``.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    pooling: ClassVar[Pooling] = "head"

    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: int = 4
    patch_size: int = 16
    num_classes: int = 1000
    grid: tuple[int, int] = (14, 14)
    attention: Attention = "fused"
    pixel_mean: RGB = IMAGENET_MEAN
    pixel_std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        check_least(self, 1, "width", "depth", "heads", "mlp_ratio", "patch_size")
        check_least(self, 0, "num_classes")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of the heads ({self.heads})")
        check_grid(self.grid)
        check_choice(self, "attention", get_args(Attention))

    def without_classifier(self) -> Self:
        """The same backbone without classifier; the class token stays, for the patches read it."""
        return replace(self, num_classes=0)


DEIT_TINY = DeiTConfig(width=192, heads=3)
DEIT_SMALL = DeiTConfig(width=384, heads=6)
DEIT_BASE = DeiTConfig(width=768, heads=12)
DEIT_BASE_384 = DeiTConfig(width=768, heads=12, grid=(24, 24))
