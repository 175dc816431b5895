"""A linear head on the features of patches: class scores for the sixteen parts of each patch.

It is the linear decoder of Segmenter (arXiv 2105.05633, section 3.2.1), but reads several blocks,
and is finer: there a patch has a single score for each class.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.families.backbones import build_backbone
from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.upernet.model import of_images
from vimserve.model.families.upernet.packed import PackedSegmenter
from vimserve.model.layout import Grid
from vimserve.model.linear import Linear
from vimserve.model.packed import PackedModel
from vimserve.model.slide import CELLS

CELLS_A_PATCH = CELLS * CELLS
PREFIX = "encoder."
WEIGHT, BIAS = "decoder.weight", "decoder.bias"


class LinearSegmenter(PackedSegmenter):
    """A linear head on a backbone of packed tokens; forward only.

    The rows of its weight are (row, column, class): those of the classes at each of the 4×4 parts
    of a patch.
    """

    config: LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.encoder = build_backbone(config.backbone)
        self.decoder = Linear(config.features, CELLS_A_PATCH * config.num_classes)

    @property
    def packed(self) -> PackedModel:
        """The backbone."""
        return self.encoder

    @torch.inference_mode()
    def scores(self, batch: PackedBatch) -> Iterator[tuple[int, Tensor]]:
        """As ``Segmenter.scores``."""
        features = self.features(batch)
        for image, grid in enumerate(batch.grids):
            (rows,) = zip(*of_images(features, batch.grids, [image]), strict=True)
            yield image, self.decode(torch.cat(rows, 1), grid)

    def decode(self, features: Tensor, grid: Grid) -> Tensor:
        """Class scores ``[classes, H / 4, W / 4]`` of patches ``[rows * columns, features]``."""
        return cells(self.decoder(features)[None], grid)[0]


def cells(scores: Tensor, grid: Grid) -> Tensor:
    """Scores ``[N, rows * columns, 16 * classes]`` to ``[N, classes, 4 * rows, 4 * columns]``."""
    parts = scores.unflatten(2, (CELLS, CELLS, -1)).unflatten(1, grid)
    return parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
