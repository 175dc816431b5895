"""UPerNet (arXiv 1807.10221) on a packed backbone: a class for every pixel of images of any size.

On a Vim this is the paper's segmentation system (arXiv 2401.09417, section 4.2). Modules and
parameters carry the names of its checkpoints, which are MMSegmentation's.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor, nn

from vimserve.model.architecture import BackboneConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families.backbones import build_backbone
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.head import NECKS, UPerHead, make_necks
from vimserve.model.families.upernet.packed import PackedSegmenter
from vimserve.model.layout import Grid, equal_groups
from vimserve.model.packed import PackedModel

# The head takes images of equal grids together, up to this many patches of them, so that many
# images need no more memory than a large one.
HEAD_PATCHES = 8192


class UPerNetSegmenter(PackedSegmenter):
    """A UPerNet on a backbone of packed tokens; forward only.

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

    config: UPerNetConfig

    def __init__(
        self,
        backbone_config: BackboneConfig,
        out_indices: Sequence[int] = (5, 11, 17, 23),
        channels: int = 192,
        num_classes: int = 150,
    ) -> None:
        config = UPerNetConfig(backbone_config, tuple(out_indices), channels, num_classes)
        super().__init__(config)
        width = config.backbone.width
        self.backbone = build_backbone(config.backbone)
        for name, neck in zip(NECKS, make_necks(width), strict=True):
            self.backbone.add_module(name, neck)  # in the backbone, as published
        self.decode_head = UPerHead([width] * len(NECKS), channels, num_classes)

    @classmethod
    def of(cls, config: UPerNetConfig) -> Self:
        """The model that ``config`` describes."""
        return cls(config.backbone, config.out_indices, config.channels, config.num_classes)

    @torch.inference_mode()
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """As ``Segmenter.scores``."""
        features = self.features(batch)
        for group in equal_groups(batch.grids, HEAD_PATCHES):
            images = of_images(features, batch.grids, group)
            yield from zip(group, self.decode(images, batch.grids[group[0]]), strict=True)

    def decode(self, features: list[list[Tensor]], grid: Grid) -> Tensor:
        """Class scores ``[N, classes, H / 4, W / 4]`` of N images of one grid.

        ``features`` are those after each of ``out_indices``, ``[rows * columns, D]`` of each image.
        """
        return self.run_head([as_maps(torch.stack(images), grid) for images in features])

    def run_head(self, maps: list[Tensor]) -> Tensor:
        """Features ``[N, D, rows, columns]`` after each of ``out_indices`` to class scores.

        Each is taken out of ``maps`` when it is read, so that its memory can be freed.
        """
        return self.decode_head([neck(maps.pop(0)) for neck in self.backbone_necks])

    @property
    def packed(self) -> PackedModel:
        """The backbone."""
        return self.backbone

    @property
    def backbone_necks(self) -> list[nn.Module]:
        """``fpn1`` to ``fpn4``."""
        return [self.backbone.get_submodule(name) for name in NECKS]


def of_images(
    features: Sequence[Tensor], grids: Sequence[Grid], images: Sequence[int]
) -> list[list[Tensor]]:
    """Of each of ``features``, with a row for every patch of a batch, the rows of some images."""
    bounds = [0, *accumulate(rows * cols for rows, cols in grids)]
    return [[of_block[bounds[i] : bounds[i + 1]] for i in images] for of_block in features]


def as_maps(rows: Tensor, grid: Grid) -> Tensor:
    """``[N, rows * columns, D]`` as ``[N, D, rows, columns]``, channels last."""
    return rows.unflatten(1, grid).permute(0, 3, 1, 2)
