"""UPerNet (arXiv 1807.10221) on a packed backbone: a class for every pixel of images of any size.

On a Vim this is the paper's segmentation system (arXiv 2401.09417, section 4.2). Modules and
parameters carry the names of its checkpoints, which are MMSegmentation's.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor, nn

from vimserve.kernels.upsample_argmax import upsample_argmax
from vimserve.model.architecture import BackboneConfig
from vimserve.model.batch import PackedBatch
from vimserve.model.families.backbones import build_backbone
from vimserve.model.families.upernet.config import UPerNetConfig
from vimserve.model.families.upernet.head import NECKS, UPerHead, make_necks
from vimserve.model.layout import Grid, Layout
from vimserve.model.served import Answers, MapSize, ServedModel

# The head takes images of equal grids together, up to this many patches of them, so that many
# images need no more memory than a large one.
HEAD_PATCHES = 8192


class UPerNetSegmenter(ServedModel):
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
        self.decode_head = UPerHead(width, channels, num_classes)

    @classmethod
    def of(cls, config: UPerNetConfig) -> Self:
        """The model that ``config`` describes."""
        return cls(config.backbone, config.out_indices, config.channels, config.num_classes)

    def forward(self, batch: PackedBatch) -> list[Tensor]:
        """Class scores ``[classes, H / 4, W / 4]`` of every image (for patches of 16 pixels).

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            scores = dict(self.scores(batch))
        return [scores[image] for image in range(batch.num_images)]

    def segment(self, batch: PackedBatch) -> list[Tensor]:
        """Class maps, uint8 ``[H, W]``, of every image in its own size.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        sizes = [self.config.backbone.image_size(grid) for grid in batch.grids]
        return [classes[0] for classes in self.answer(batch, sizes).outputs]

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[MapSize | None]) -> Answers:
        """Class maps, uint8 ``[1, H, W]`` each, of the images for which a size is wanted.

        The others get the class scores that maps are made of, float32
        ``[1, classes, H / 4, W / 4]`` (for patches of 16 pixels).

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        with self.running(batch):
            return answers(self.scores(batch), wanted)

    @torch.inference_mode()
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each image and its class scores ``[classes, H / 4, W / 4]``.

        The images come in groups. Who keeps no scores needs the memory of one group at a time.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        features = self.features(batch)
        for group in groups(batch.grids):
            images = of_images(features, batch.grids, group)
            yield from zip(group, self.decode(images, batch.grids[group[0]]), strict=True)

    @torch.inference_mode()
    def features(self, batch: PackedBatch) -> list[Tensor]:
        """Features ``[T, D]`` of all patches after each of ``out_indices``."""
        features = self.backbone.forward_features(batch, self.config.out_indices)
        return self.without_class_tokens(features, batch)

    def without_class_tokens(self, features: list[Tensor], batch: PackedBatch) -> list[Tensor]:
        """The rows of the patches among those of all tokens."""
        config = self.config.backbone
        if not config.class_tokens:
            return features
        layout = Layout.of(config, batch.grids, features[0].device)
        rows = layout.patch_rows(len(batch.patches))
        return [of_block.index_select(0, rows) for of_block in features]

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
    def backbone_necks(self) -> list[nn.Module]:
        """``fpn1`` to ``fpn4``."""
        return [self.backbone.get_submodule(name) for name in NECKS]

    @property
    def width(self) -> int:
        """Of a token in the backbone's blocks."""
        return self.backbone.width

    def num_tokens(self, grid: Grid) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return self.backbone.num_tokens(grid)


def answers(scores: Iterable[tuple[int, Tensor]], wanted: Sequence[MapSize | None]) -> Answers:
    """The answers to a batch, of which each image's scores may be overwritten by the next one's."""
    outputs: dict[int, Tensor] = {}
    finite: dict[int, Tensor] = {}
    for image, of_image in scores:
        size = wanted[image]
        if size is None:
            output = of_image.to(torch.float32, copy=True)
        else:
            output, _ = upsample_argmax(of_image, size)
        outputs[image] = output[None]
        finite[image] = of_image.isfinite().all()
    order = range(len(wanted))
    return Answers([outputs[i] for i in order], torch.stack([finite[i] for i in order]))


def of_images(
    features: Sequence[Tensor], grids: Sequence[Grid], images: Sequence[int]
) -> list[list[Tensor]]:
    """Of each of ``features``, with a row for every patch of a batch, the rows of some images."""
    bounds = [0, *accumulate(rows * cols for rows, cols in grids)]
    return [[of_block[bounds[i] : bounds[i + 1]] for i in images] for of_block in features]


def as_maps(rows: Tensor, grid: Grid) -> Tensor:
    """``[N, rows * columns, D]`` as ``[N, D, rows, columns]``, channels last."""
    return rows.unflatten(1, grid).permute(0, 3, 1, 2)


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
