"""The architecture of a DeiT as plain data; one line per published size."""

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

Attention = Literal["fused", "eager"]

GLOBAL_BLOCKS = 4  # which have no windows, evenly spaced


@dataclass(frozen=True)
class DeiTConfig(TokensConfig):
    """A DeiT (arXiv 2012.12877), the vision transformer that Vim is measured against.

    ``attention`` is computed ``fused``, without its scores ever reaching memory (PyTorch's
    ``scaled_dot_product_attention``), or ``eager``, with the scores of all pairs of tokens written
    out, as the Vim paper measured it. ``grid``, ``pixel_mean``, ``pixel_std`` and ``readout`` are
    as in ``VimConfig``.

    The rest is what ViTDet (arXiv 2203.16527) makes of the same blocks under a detector:

    Attributes:
        class_token: whether there is one, which the classifier reads.
        class_position: whether ``pos_embed`` begins with the row of a class token. Pretraining may
            have left it there without the token; it is not read then.
        window: side in patches of the squares within which tokens attend to each other; 0 lets all
            of an image do so, as they do in the last block of each quarter anyway.
        rel_pos: the grid that the relative position tables of the blocks without windows were
            trained for; None if there are no such tables.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

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
    class_token: bool = True
    class_position: bool = True
    window: int = 0
    rel_pos: tuple[int, int] | None = None
    readout: Readout = "class"

    def __post_init__(self) -> None:
        check_least(self, 1, "width", "depth", "heads", "mlp_ratio", "patch_size")
        check_least(self, 0, "num_classes", "window")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of the heads ({self.heads})")
        check_grid(self.grid)
        check_choice(self, "attention", get_args(Attention))
        check_readout(self)
        if self.rel_pos is not None:
            check_grid(self.rel_pos, "rel_pos")
        if self.class_token:
            self._check_class_token()
        elif self.num_classes:
            raise ValueError(
                f"a classifier of {self.num_classes} classes reads a class token: there is none"
            )

    @property
    def pooling(self) -> Pooling:
        """The class token is the first, if there is one."""
        return "head" if self.class_token else "mean"

    @property
    def positions(self) -> int:
        """Rows of ``pos_embed``."""
        return self.grid[0] * self.grid[1] + self.class_position

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that the model was trained on last.

        Relative positions tell it: ``grid`` may be that of a pretraining at another size.
        """
        return self.image_size(self.rel_pos or self.grid)

    def window_of(self, block: int) -> int:
        """``window`` in the block of this number; 0 in the last one of each quarter."""
        last = (block + 1) * GLOBAL_BLOCKS // self.depth > block * GLOBAL_BLOCKS // self.depth
        return 0 if last else self.window

    def without_classifier(self) -> Self:
        """The same backbone without classifier; the class token stays, for the patches read it."""
        return replace(self, num_classes=0, readout="class")

    def _check_class_token(self) -> None:
        """Check that nothing is wanted that needs tokens which all lie in the grid."""
        if not self.class_position:
            raise ValueError("a class token needs its row of pos_embed: class_position=True")
        if self.window or self.rel_pos is not None:
            wanted = f"window={self.window}" if self.window else f"rel_pos={self.rel_pos}"
            raise ValueError(
                f"{wanted} needs a DeiT without class token, which has no place in the grid"
            )


DEIT_TINY = DeiTConfig(width=192, heads=3)
DEIT_SMALL = DeiTConfig(width=384, heads=6)
DEIT_BASE = DeiTConfig(width=768, heads=12)
DEIT_BASE_384 = DeiTConfig(width=768, heads=12, grid=(24, 24))
