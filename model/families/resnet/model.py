"""A ResNet (arXiv 1512.03385) as torchvision builds it, on packed batches of images of any sizes.

Modules and parameters carry torchvision's names. A convolution needs its neighbours in both
directions, so packed patches are put together again, and images of equal sizes run together,
others one after another.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.batch import PackedBatch, to_device
from vimserve.model.families.resnet.config import ResNetConfig
from vimserve.model.families.resnet.layers import Bottleneck, ExactNorm, bare_conv, folded
from vimserve.model.layout import Grid, equal_groups
from vimserve.model.linear import Linear
from vimserve.model.served import Answers, ServedModel, Wanted
from vimserve.model.threads import each_block, follow_limit

# Images of equal grids run together up to this many patches of them, so that many images need no
# more memory than a large one.
GROUP_PATCHES = 8192


class ResNet(ServedModel):
    """A classifier, or without classes the backbone of a segmenter; forward only."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        width = config.width
        if config.deep_stem:
            self.stem = nn.Sequential(
                bare_conv(3, width // 2, 3, stride=2), ExactNorm(width // 2), nn.ReLU(),
                bare_conv(width // 2, width // 2, 3), ExactNorm(width // 2), nn.ReLU(),
                bare_conv(width // 2, width, 3), ExactNorm(width), nn.ReLU(),
            )  # fmt: skip
        else:
            self.conv1, self.bn1 = bare_conv(3, width, 7, stride=2), ExactNorm(width)
        for stage, blocks in enumerate(config.blocks):
            inner, outputs = config.inner << stage, config.widths[stage]
            inputs = config.widths[stage - 1] if stage else width
            first = Bottleneck(inputs, inner, outputs, stride=2 if stage else 1, project=True)
            others = (Bottleneck(outputs, inner, outputs) for _ in range(blocks - 1))
            self.add_module(f"layer{stage + 1}", nn.ModuleList([first, *others]))
        if config.num_classes:
            self.fc = Linear(config.widths[-1], config.num_classes)
        self._stem: list[Callable[[Tensor], Tensor]] | None = None

    @torch.inference_mode()
    def forward(self, batch: PackedBatch) -> Tensor:
        """Class scores ``[N, classes]`` of a packed batch of N images.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            means: dict[int, Tensor] = {}
            for group, images in self.groups(batch):
                last = deque(self.levels(images), maxlen=1).pop()
                means.update(zip(group, spoilt(images) + last.mean((2, 3)), strict=True))
            return self.fc(torch.stack([means[image] for image in range(batch.num_images)]))

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:  # noqa: ARG002
        """Class scores, as ``ServedModel.answer``."""
        return Answers.of_scores(self(batch))

    def groups(self, batch: PackedBatch) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the numbers of images of equal sizes, and the images ``[N, 3, H, W]``.

        They are normalised, in the model's dtype and channels last.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        size = 3 * self.config.patch_size**2
        if batch.patches.shape[1] != size:
            raise ValueError(
                f"patches have {batch.patches.shape[1]} values, the model takes {size}: "
                f"pack with patch_size={self.config.patch_size}, stride={self.config.stride}"
            )
        bounds = [0, *accumulate(map(math.prod, batch.grids))]
        for group in equal_groups(batch.grids, GROUP_PATCHES):
            patches = [batch.patches[bounds[image] : bounds[image + 1]] for image in group]
            yield group, self.whole_images(torch.stack(patches), batch.grids[group[0]])

    def whole_images(self, patches: Tensor, grid: Grid) -> Tensor:
        """Patches ``[N, rows * columns, 3 * P * P]`` put together, as ``groups`` yields them."""
        config, weight = self.config, next(self.parameters())
        pixels = patches.to(weight.device).unflatten(2, (3, -1))
        if not pixels.is_floating_point():
            means, stds = (
                to_device([255 * value for value in values], weight.device, torch.float32)[:, None]
                for values in (config.pixel_mean, config.pixel_std)
            )
            pixels = pixels.float().sub_(means).div_(stds)
        side = config.patch_size
        # [N, rows, columns, 3, P, P] as [N, rows, P, columns, P, 3]
        tiles = pixels.reshape(-1, *grid, 3, side, side).permute(0, 1, 4, 2, 5, 3)
        images = tiles.to(weight.dtype).reshape(-1, grid[0] * side, grid[1] * side, 3)
        return images.permute(0, 3, 1, 2)

    def levels(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the features of 1/4, 1/8, 1/16 and 1/32 of the height and width, rounded up.

        Args:
            images: normalised ``[N, 3, H, W]`` of any size, in the model's dtype and channels last.
        """
        parts = self._stem = self._stem or [folded(*part) for part in self._stem_parts()]
        maps = images
        for convolve in parts:
            maps = convolve(maps)
        maps = F.max_pool2d(maps, kernel_size=3, stride=2, padding=1)
        for stage, blocks in enumerate(self.config.blocks):
            first, *others = self.get_submodule(f"layer{stage + 1}").children()
            follow_limit()
            maps = first(maps)
            # Only the equal blocks of the longest stage can tell which number of threads is best.
            longest = blocks == max(self.config.blocks)
            for block in each_block(others) if longest else others:
                maps = block(maps)
            yield maps

    @property
    def width(self) -> int:
        """Of what the classifier reads."""
        return self.config.widths[-1]

    def num_tokens(self, grid: Grid) -> int:
        """What an image counts in a batch: its patches, by which time and memory grow."""
        return math.prod(grid)

    def forget_prepared(self) -> None:
        """Drop everything derived from the parameters."""
        super().forget_prepared()
        self._stem = None

    def _stem_parts(self) -> list[tuple[nn.Conv2d, ExactNorm]]:
        if not self.config.deep_stem:
            return [(self.conv1, self.bn1)]
        convolutions = [module for module in self.stem if isinstance(module, nn.Conv2d)]
        norms = [module for module in self.stem if isinstance(module, ExactNorm)]
        return list(zip(convolutions, norms, strict=True))


def spoilt(images: Tensor) -> Tensor:
    """``[N, 1]`` to add to the answers of images ``[N, 3, H, W]``: 0, or NaN for a spoilt image.

    oneDNN's fused ReLU makes 0 of NaN, so that nothing else tells of an image with such values.
    """
    return (0 * images).sum((1, 2, 3))[:, None]
