"""UPerNet (arXiv 1807.10221) on a packed backbone: a class for every pixel of images of any size.

On a Vim this is the paper's segmentation system (arXiv 2401.09417, section 4.2). Modules and
parameters carry the names of its checkpoints, which are MMSegmentation's.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.batch import PackedBatch
from vimserve.model.config import BackboneConfig, UPerNetConfig, VimConfig
from vimserve.model.families.deit.model import DeiT
from vimserve.model.families.vim.model import Vim
from vimserve.model.layout import Grid, Layout

NECKS = ("fpn1", "fpn2", "fpn3", "fpn4")
POOL_SCALES = (1, 2, 3, 6)
# So many patches of equal grids pass the head at once: many images take no more than a large one.
HEAD_PATCHES = 8192


class Folded(nn.Module):
    """A module whose convolution has its batch norm folded in at the first call after loading."""

    _folded: tuple[Tensor, Tensor] | None = None

    def weight_and_bias(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d
    ) -> tuple[Tensor, Tensor]:
        """Of one convolution that does what both do."""
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

        A part of another height and width is resized to those of the first. The parts are never
        concatenated, nor are they all resized at the same time: the convolution of all is the sum
        of the convolutions of each.
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

        ``levels`` is emptied: what has been read is of no use any more.
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


class UPerNetSegmenter(nn.Module):
    """Class scores, or the classes themselves, for every pixel; forward only.

    The backbone runs over the packed tokens of all images, the dense head over images of equal
    grids together. The features are the hidden states after the blocks ``out_indices``: in a Vim
    the mixers' outputs without the residual, as published.

    Args:
        backbone_config: its classifier and, in a Vim, its class token are left out.
        out_indices: four blocks, the first from 0, for the features of 1/4, 1/8, 1/16 and 1/32 of
            the image's height and width (for patches of 16 pixels).
        channels: width of the head.
        num_classes: at most 256.

    Raises:
        ValueError: for a value outside the supported range; the message names it.
    """

    def __init__(
        self,
        backbone_config: BackboneConfig,
        out_indices: Sequence[int] = (5, 11, 17, 23),
        channels: int = 192,
        num_classes: int = 150,
    ) -> None:
        super().__init__()
        config = UPerNetConfig(backbone_config, tuple(out_indices), channels, num_classes)
        backbone = config.backbone
        self.config = config
        self.backbone: Vim | DeiT = (
            Vim(backbone) if isinstance(backbone, VimConfig) else DeiT(backbone)
        )
        for name, neck in zip(
            NECKS, make_necks(backbone.width), strict=True
        ):  # in the backbone, as published
            self.backbone.add_module(name, neck)
        self.decode_head = UPerHead(backbone.width, channels, num_classes)
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda *_: self.forget_prepared()
        )

    @classmethod
    def of(cls, config: UPerNetConfig) -> Self:
        """The model that ``config`` describes."""
        return cls(config.backbone, config.out_indices, config.channels, config.num_classes)

    def forward(self, batch: PackedBatch) -> list[Tensor]:
        """Class scores ``[classes, H / 4, W / 4]`` of every image (for patches of 16 pixels).

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        scores = dict(self.scores(batch))
        return [scores[image] for image in range(batch.num_images)]

    def segment(self, batch: PackedBatch) -> list[Tensor]:
        """Class maps, uint8 ``[H, W]``, of every image in its own size.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        maps = {
            image: upsample_argmax(scores, self.config.image_size(batch.grids[image]))[0]
            for image, scores in self.scores(batch)
        }
        return [maps[image] for image in range(batch.num_images)]

    @torch.inference_mode()
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each image and its class scores ``[classes, H / 4, W / 4]``.

        The images come in groups; whoever keeps no scores needs the memory of one group alone.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        features = self.features(batch)
        bounds = [0, *accumulate(rows * cols for rows, cols in batch.grids)]
        for group in groups(batch.grids):
            grid = batch.grids[group[0]]
            maps = [
                torch.stack([of_block[bounds[i] : bounds[i + 1]] for i in group])
                .unflatten(1, grid)
                .permute(0, 3, 1, 2)
                for of_block in features
            ]
            levels = [neck(level) for neck, level in zip(self.backbone_necks, maps, strict=True)]
            del maps
            yield from zip(group, self.decode_head(levels), strict=True)
            del levels

    @torch.inference_mode()
    def features(self, batch: PackedBatch) -> list[Tensor]:
        """Features ``[T, D]`` of all patches after each of ``out_indices``."""
        config = self.config.backbone
        features = self.backbone.forward_features(batch, self.config.out_indices)
        if not config.class_tokens:
            return features
        layout = Layout.of(config.pooling, batch.grids, features[0].device)
        rows = layout.patch_rows(len(batch.patches))
        return [of_block.index_select(0, rows) for of_block in features]

    @property
    def backbone_necks(self) -> list[nn.Module]:
        """``fpn1`` to ``fpn4``."""
        return [self.backbone.get_submodule(name) for name in NECKS]

    def num_tokens(self, grid: Grid) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return self.backbone.num_tokens(grid)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load or compile every kernel and derive the weights, so that no request waits for it."""
        side = self.config.patch_size + self.config.stride
        image = self.backbone.pos_embed.new_zeros(3, side, side)
        self.segment(PackedBatch.from_images([image], self.config.patch_size, self.config.stride))

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        self.backbone.forget_prepared()
        for module in self.modules():
            if isinstance(module, Folded):
                module.forget_prepared()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.forget_prepared()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, C, H, W]`` to another height and width, bilinearly, if it has not got them."""
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def groups(grids: Sequence[Grid]) -> list[list[int]]:
    """Images of equal grids, by their numbers, so many together as the head takes at once."""
    by_grid: dict[Grid, list[int]] = {}
    for image, grid in enumerate(grids):
        by_grid.setdefault(grid, []).append(image)
    return [
        images[first : first + step]
        for (rows, cols), images in by_grid.items()
        for step in (max(1, HEAD_PATCHES // (rows * cols)),)
        for first in range(0, len(images), step)
    ]
