"""The architecture of a ResNet as plain data; one line per published size."""

from dataclasses import dataclass, field, replace
from typing import Self

from vimserve.model.architecture import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RGB,
    BackboneConfig,
    Pooling,
    check_grid,
    check_least,
)

STAGES = 4
EXPANSION = 4  # a bottleneck's outputs over its inner channels, but in a wide ResNet


@dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """A ResNet of bottlenecks (arXiv 1512.03385), the convolutional net to compare with.

    It is the form that torchvision has published, where the 3 x 3 convolution of a stage's first
    block has the stride ("V1.5"). ``pixel_mean`` and ``pixel_std`` are as in ``BackboneConfig``.

    Attributes:
        blocks: bottlenecks of each stage.
        width: channels of the stem; the stages have 4, 8, 16 and 32 times as many.
        inner: channels within the bottlenecks of the first stage, doubled from each stage to the
            next. In a wide ResNet it is more than ``width``.
        deep_stem: whether the stem is three convolutions of 3 x 3 instead of one of 7 x 7, as in
            MMSegmentation's ResNetV1c.
        num_classes: of the classifier; 0 leaves it out.
        grid: (rows, columns) of patches of the images that it was trained on.
        patch_size: as images are cut for a batch; the net puts them together again.
        depth: of what a head can read, the stages.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    inner: int = 64
    deep_stem: bool = False
    num_classes: int = 1000
    grid: tuple[int, int] = (14, 14)
    pixel_mean: RGB = IMAGENET_MEAN
    pixel_std: RGB = IMAGENET_STD
    patch_size: int = field(default=16, init=False)
    depth: int = field(default=STAGES, init=False)

    def __post_init__(self) -> None:
        check_least(self, 1, "width", "inner")
        check_least(self, 0, "num_classes")
        check_grid(self.grid)
        if len(self.blocks) != STAGES or min(self.blocks) < 1:
            raise ValueError(f"blocks must be {STAGES} numbers of at least 1, not {self.blocks}")
        if self.deep_stem and self.width % 2:
            raise ValueError(f"width {self.width} must be even for a deep stem")

    @property
    def pooling(self) -> Pooling:
        """The classifier reads the mean of all places."""
        return "mean"

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each stage."""
        return tuple(EXPANSION * self.width << stage for stage in range(STAGES))

    def without_classifier(self) -> Self:
        """The same net without classifier."""
        return replace(self, num_classes=0)


RESNET_50 = ResNetConfig()
RESNET_101 = ResNetConfig(blocks=(3, 4, 23, 3))
