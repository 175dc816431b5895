"""The architecture of a UPerNet as plain data; one line per variant that is in the catalog."""

from dataclasses import dataclass, replace

from vimserve.model.architecture import BackboneConfig, HeadConfig, check_least
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.resnet.config import RESNET_50, RESNET_101
from vimserve.model.families.vim.config import VimConfig

FEATURES = 4  # how many the head reads
MOST_CLASSES = 256  # what a byte of a mask can tell apart


@dataclass(frozen=True)
class UPerNetConfig(HeadConfig):
    """A UPerNet (arXiv 1807.10221) on a backbone: four features, one head, a class per pixel.

    ``out_indices`` are the blocks that the features come from (of a ResNet, the stages), and
    ``channels`` is the width of the head. The backbone's classifier and a Vim's class token are
    left out, whatever it is given with.

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
        check_mask_classes(self.num_classes)
        object.__setattr__(self, "backbone", self.backbone.without_classifier())


def check_mask_classes(num_classes: int) -> None:
    """Check that a mask can tell so many classes apart.

    Raises:
        ValueError: if it cannot.
    """
    if num_classes > MOST_CLASSES:
        raise ValueError(
            f"num_classes must be at most {MOST_CLASSES}, because a mask has one byte for "
            f"each pixel, not {num_classes}"
        )


def last_of_parts(blocks: int) -> tuple[int, ...]:
    """The last block of each quarter, by their numbers from 0."""
    quarter = blocks / FEATURES
    return tuple(round(quarter * (i + 1)) - 1 for i in range(FEATURES))


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
RESNET_50_UPERNET = UPerNetConfig(
    replace(RESNET_50, deep_stem=True, grid=(32, 32)), (0, 1, 2, 3), channels=512
)
RESNET_101_UPERNET = UPerNetConfig(
    replace(RESNET_101, deep_stem=True, grid=(32, 32)), (0, 1, 2, 3), channels=512
)
