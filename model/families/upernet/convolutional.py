"""UPerNet on a convolutional backbone, which has a pyramid of features of its own.

Modules and parameters carry the names of MMSegmentation's checkpoints.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.resnet.model import ResNet, spoilt
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.head import UPerHead
from vimserve.model.families.upernet.segmenter import Segmenter
from vimserve.model.layout import Grid


class ConvolutionalSegmenter(Segmenter):
    """A UPerNet on a ResNet, whose four stages the head reads as they are; forward only.

    Images of equal sizes run together through the backbone and the head.
    """

    def __init__(self, config: UPerNetConfig) -> None:
        super().__init__(config)
        assert isinstance(config.backbone, ResNetConfig)
        self.backbone = ResNet(config.backbone)
        self.decode_head = UPerHead(config.backbone.widths, config.channels, config.num_classes)

    @torch.inference_mode()
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """As ``Segmenter.scores``."""
        for group, images in self.backbone.groups(batch):
            scores = self.decode_head([*self.backbone.levels(images)])
            scores += spoilt(images)[:, :, None, None]
            yield from zip(group, scores, strict=True)

    @property
    def width(self) -> int:
        """As the backbone's."""
        return self.backbone.width

    def num_tokens(self, grid: Grid) -> int:
        """As the backbone's."""
        return self.backbone.num_tokens(grid)
