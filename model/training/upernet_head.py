"""The head of a UPerNet with gradients, in float32; its parameters have the published names."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.families.upernet.head import NECKS, Halve, UPerHead


def conv_module(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU under their published names."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, activate=nn.ReLU(inplace=True)))


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, C, H, W]`` to another height and width, bilinearly, unless it has them already."""
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def make_necks(width: int) -> dict[str, nn.Module]:
    """What brings the features of four blocks to 1/4, 1/8, 1/16 and 1/32, by their names."""

    def double() -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(width, width, 2, 2)

    quadruple = nn.Sequential(double(), nn.BatchNorm2d(width), nn.GELU(), double())
    necks = quadruple, nn.Sequential(double()), nn.Identity(), Halve()
    return dict(zip(NECKS, necks, strict=True))


class Head(UPerHead):
    """The served head, but with gradients."""

    def __init__(self, width: int, channels: int, num_classes: int) -> None:
        super().__init__([width] * len(NECKS), channels, num_classes, conv_module)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Four levels, the finest first, to class scores of the finest's size."""
        *finer, coarsest = levels
        pooled = [resize(pool(coarsest), coarsest.shape[2:]) for pool in self.psp_modules]
        above = self.bottleneck(torch.cat((coarsest, *pooled), dim=1))
        pyramid = [above]
        for level, lateral, smooth in zip(
            reversed(finer), reversed(self.lateral_convs), reversed(self.fpn_convs), strict=True
        ):
            above = lateral(level) + resize(above, level.shape[2:])
            pyramid.insert(0, smooth(above))
        fused = torch.cat([resize(level, finer[0].shape[2:]) for level in pyramid], dim=1)
        scores: Tensor = self.conv_seg(F.dropout2d(self.fpn_bottleneck(fused), 0.1, self.training))
        return scores
