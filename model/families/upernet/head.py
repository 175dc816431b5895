"""The dense part of a UPerNet: necks, pyramid pooling, feature pyramid and classifier."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vimserve.model.prepared import PreparedModule

NECKS = ("fpn1", "fpn2", "fpn3", "fpn4")
POOL_SCALES = (1, 2, 3, 6)


class Folded(PreparedModule):
    """A module with a convolution into which its batch norm is folded."""

    _folded: tuple[Tensor, Tensor] | None = None

    def weight_and_bias(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias of one convolution that does what both do."""
        if self._folded is None:
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None
            assert var is not None
            with torch.no_grad():
                weight, bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias,
                    transpose=isinstance(conv, nn.ConvTranspose2d),
                )  # fmt: skip
            self._folded = weight.contiguous(memory_format=torch.channels_last), bias
        return self._folded

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._folded = None


class ConvModule(Folded):
    """Convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, *parts: Tensor) -> Tensor:
        """``[N, C_i, H, W]`` each, which stand for their concatenation, to ``[N, C, H, W]``.

        A part of another height and width is resized to those of the first. The convolution of the
        concatenation is the sum of the convolutions of the parts. It is computed so, and no more
        than one part is held resized at a time.
        """
        weight, bias = self.weight_and_bias(self.conv, self.bn)
        weights = weight.split([part.shape[1] for part in parts], dim=1)
        padding = self.conv.kernel_size[0] // 2
        out = F.conv2d(parts[0], weights[0], bias, padding=padding)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            out += F.conv2d(resize(part, out.shape[2:]), weight, padding=padding)
        return out.relu_()


class Quadruple(Folded):
    """The neck ``fpn1``: four times the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(width, width, 2, 2), nn.ConvTranspose2d(width, width, 2, 2)
        # The published module is a sequence whose third member is the GELU.
        self.add_module("0", up[0])
        self.add_module("1", nn.BatchNorm2d(width))
        self.add_module("3", up[1])

    def forward(self, features: Tensor) -> Tensor:
        """``[N, D, H, W]`` to ``[N, D, 4 H, 4 W]``."""
        first, norm, second = self.children()
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(norm, nn.BatchNorm2d)
        doubled = F.conv_transpose2d(features, *self.weight_and_bias(first, norm), stride=2)
        quadrupled: Tensor = second(F.gelu(doubled))
        return quadrupled


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

    ``conv_module`` makes its convolutions from input and output channels and the kernel's side.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        num_classes: int,
        conv_module: Callable[[int, int, int], nn.Module] = ConvModule,
    ) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), conv_module(width, channels, 1))
            for scale in POOL_SCALES
        )
        self.bottleneck = conv_module(width + len(POOL_SCALES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(conv_module(width, channels, 1) for _ in range(3))
        self.fpn_convs = nn.ModuleList(conv_module(channels, channels, 3) for _ in range(3))
        self.fpn_bottleneck = conv_module(4 * channels, channels, 3)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Features ``[N, D, H, W]``, the finest first, to class scores of the finest's size.

        Each level is taken out of ``levels`` when it is read, so that its memory can be freed.
        """
        coarsest = levels.pop()
        pyramid = [self.bottleneck(coarsest, *(pool(coarsest) for pool in self.psp_modules))]
        above = pyramid[0]
        for lateral, smooth in zip(
            reversed(self.lateral_convs), reversed(self.fpn_convs), strict=True
        ):
            here = lateral(levels.pop())
            above = here.add_(resize(above, here.shape[2:]))
            pyramid.insert(0, smooth(above))
        del above, here
        return self.conv_seg(self.fpn_bottleneck(*pyramid))


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, C, H, W]`` to another height and width, bilinearly, unless it has them already."""
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)
