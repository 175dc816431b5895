"""The dense part of a UPerNet: necks, pyramid pooling, feature pyramid and classifier."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.kernels.upsample_add import upsample_add
from vimserve.model.convolution import fold
from vimserve.model.linear import PreparedLinear
from vimserve.model.prepared import PreparedModule
from vimserve.model.threads import follow_limit

NECKS = ("fpn1", "fpn2", "fpn3", "fpn4")
POOL_SCALES = (1, 2, 3, 6)
BLOCK = 64  # output channels for which products of all taps are held


class ConvModule(PreparedModule):
    """Convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self._prepared: tuple[Tensor, Tensor, list[list[PreparedLinear]]] | None = None

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """``[N, C_i, H, W]`` each, which stand for their concatenation, to ``[N, C, H, W]``.

        A part of another height and width than the first's stands for itself resized to those. The
        convolution of the concatenation is the sum of the convolutions of the parts. That of
        each further part is computed from products at the part's own size, which
        ``kernels.upsample_add`` upsamples and adds, for some of the output channels at a time, so
        that the products of all taps take no more memory than the output does.
        """
        widths = [part.shape[1] for part in others]
        weight, bias, blocks = self._prepared = self._prepared or self._prepare(widths)
        follow_limit()
        padding = self.conv.padding
        if not others:
            return F.conv2d(first, weight, bias, padding=padding).relu_()
        sums = positions(F.conv2d(first, weight, padding=padding))
        parts = [positions(part).contiguous() for part in others]
        for channels, of_channels, products in zip(
            sums.split(BLOCK, dim=3), bias.split(BLOCK), blocks, strict=True
        ):
            follow_limit()
            maps = [
                product(part.flatten(0, 2)).view(*part.shape[:3], -1, len(of_channels))
                for product, part in zip(products, parts, strict=True)
            ]
            upsample_add(channels, maps, of_channels, relu=True)
            del maps  # before the next are made
        return sums.permute(0, 3, 1, 2)

    def _prepare(self, widths: list[int]) -> tuple[Tensor, Tensor, list[list[PreparedLinear]]]:
        """Lay out the weights for parts of so many channels after the first.

        Returns:
            The first part's weight; the bias; for each block of output channels and each further
            part a product with the weights of all taps.
        """
        weight, bias = fold(self.conv, self.bn)
        first, *others = weight.split([weight.shape[1] - sum(widths), *widths], dim=1)
        blocks = [
            # [channels, inputs, rows, columns] as [taps * channels, inputs]
            [PreparedLinear(part.permute(2, 3, 0, 1).flatten(0, 2)) for part in parts]
            for parts in zip(*(other.split(BLOCK) for other in others), strict=True)
        ]
        return first.contiguous(memory_format=torch.channels_last), bias, blocks

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._prepared = None


class Quadruple(PreparedModule):
    """The neck ``fpn1``: four times the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(width, width, 2, 2), nn.ConvTranspose2d(width, width, 2, 2)
        # The published module is a sequence whose third member is the GELU.
        self.add_module("0", up[0])
        self.add_module("1", nn.BatchNorm2d(width))
        self.add_module("3", up[1])
        self._folded: tuple[Tensor, Tensor] | None = None

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D, H, W]`` to ``[N, D, 4 H, 4 W]``."""
        first, norm, second = self.children()
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight, bias = self._folded = self._folded or fold(first, norm)
        doubled = F.conv_transpose2d(features, weight, bias, stride=2)
        quadrupled: Tensor = second(F.gelu(doubled))
        return quadrupled

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._folded = None


class Halve(nn.Module):
    """The neck ``fpn4``: half the height and width; a single row or column stays."""

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D, H, W]`` to ``[N, D, H // 2, W // 2]``."""
        return F.max_pool2d(features, [min(side, 2) for side in features.shape[2:]])


def make_necks(width: int) -> list[nn.Module]:
    """What brings the features of four blocks to 1/4, 1/8, 1/16 and 1/32 of the image."""
    double = nn.Sequential(nn.ConvTranspose2d(width, width, 2, 2))
    return [Quadruple(width), double, nn.Identity(), Halve()]


class UPerHead(nn.Module):
    """Pyramid pooling of the coarsest features, a feature pyramid, and their fusion.

    Args:
        widths: channels of the four levels, the finest first.
        channels: of everything in between.
        num_classes: of the scores.
        conv_module: makes a convolution from input and output channels and the kernel's side.
    """

    def __init__(
        self,
        widths: Sequence[int],
        channels: int,
        num_classes: int,
        conv_module: Callable[[int, int, int], nn.Module] = ConvModule,
    ) -> None:
        super().__init__()
        *finer, coarsest = widths
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), conv_module(coarsest, channels, 1))
            for scale in POOL_SCALES
        )
        self.bottleneck = conv_module(coarsest + len(POOL_SCALES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(conv_module(width, channels, 1) for width in finer)
        self.fpn_convs = nn.ModuleList(conv_module(channels, channels, 3) for _ in range(3))
        self.fpn_bottleneck = conv_module(4 * channels, channels, 3)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Features ``[N, D_i, H, W]``, the finest first, to class scores of the finest's size.

        Each level is taken out of ``levels`` when it is read, so that its memory can be freed.
        """
        coarsest = levels.pop()
        pyramid = [self.bottleneck(coarsest, *(pool(coarsest) for pool in self.psp_modules))]
        above = pyramid[0]
        for lateral, smooth in zip(
            reversed(self.lateral_convs), reversed(self.fpn_convs), strict=True
        ):
            here = lateral(levels.pop())
            upsampled = [positions(above).unsqueeze(3)]
            above = upsample_add(positions(here), upsampled).permute(0, 3, 1, 2)
            pyramid.insert(0, smooth(above))
        del above, here
        fused = self.fpn_bottleneck(*pyramid)
        del pyramid
        return self.conv_seg(fused)


def positions(features: Tensor) -> Tensor:
    """``[N, C, H, W]`` as ``[N, H, W, C]``, whose channels lie side by side."""
    return features.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
