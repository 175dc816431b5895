"""The architecture of a UPerNet as plain data; one line per variant that is in the catalog."""

from dataclasses import dataclass, replace

from vimserve.model.architecture import RGB, BackboneConfig, check_least
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.vim.config import VimConfig

FEATURES = 4  # how many the head reads
MOST_CLASSES = 256  # what a byte of a mask can tell apart


@dataclass(frozen=True)
class UPerNetConfig:
    """A UPerNet (arXiv 1807.10221) on a backbone: four features, one head, a class per pixel.

    ``out_indices`` are the blocks that the features come from, ``channels`` is the width of the
    head. The backbone's classifier and a Vim's class token are left out, whatever it is given with.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    backbone: BackboneConfig
    out_indices: tuple[int, ...] = (5, 11, 17, 23)
    channels: int = 192
    num_classes: int = 150

    def __post_init__(self) -> None:
        blocks = self.backbone.depth
        if len(self.out_indices) != FEATURES or list(self.out_indices) != sorted(
            {*self.out_indices} & {*range(blocks)}
        ):
            raise ValueError(
                f"out_indices must be {FEATURES} of the {blocks} blocks in order, "
                f"not {self.out_indices}"
            )
        check_least(self, 1, "channels", "num_classes")
        if self.num_classes > MOST_CLASSES:
            raise ValueError(
                f"num_classes must be at most {MOST_CLASSES}, because a mask has one byte for "
                f"each pixel, not {self.num_classes}"
            )
        object.__setattr__(self, "backbone", self.backbone.without_classifier())

    @property
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels."""
        return self.backbone.patch_size

    @property
    def stride(self) -> int:
        """From one of the backbone's patches to the next, in pixels."""
        return self.backbone.stride

    @property
    def pixel_mean(self) -> RGB:
        """Mean of each channel that the backbone reckons with, for pixels from 0 to 1."""
        return self.backbone.pixel_mean

    @property
    def pixel_std(self) -> RGB:
        """Standard deviation of each channel that the backbone reckons with, likewise."""
        return self.backbone.pixel_std

    @property
    def trained_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that the backbone's ``grid`` belongs to."""
        return self.backbone.trained_size

    @property
    def attention(self) -> str:
        """How the backbone computes attention, or ``none`` where it has none."""
        return self.backbone.attention


_VIM_TINY = VimConfig(width=192, grid=(32, 32))
_VIM_SMALL = VimConfig(width=384, grid=(32, 32))
_DEIT_TINY = DeiTConfig(width=192, heads=3, grid=(32, 32))
_DEIT_SMALL = DeiTConfig(width=384, heads=6, grid=(32, 32))

VIM_TINY_UPERNET = UPerNetConfig(_VIM_TINY, channels=192)
VIM_SMALL_UPERNET = UPerNetConfig(_VIM_SMALL, channels=384)
DEIT_TINY_UPERNET = UPerNetConfig(_DEIT_TINY, (2, 5, 8, 11), channels=192)
DEIT_TINY_UPERNET_EAGER = UPerNetConfig(
    replace(_DEIT_TINY, attention="eager"), (2, 5, 8, 11), channels=192
)
DEIT_SMALL_UPERNET = UPerNetConfig(_DEIT_SMALL, (2, 5, 8, 11), channels=384)
DEIT_SMALL_UPERNET_EAGER = UPerNetConfig(
    replace(_DEIT_SMALL, attention="eager"), (2, 5, 8, 11), channels=384
)
