"""Cascade Mask R-CNN on a packed backbone: boxes, classes and masks in images of any size.

On a Vim this is the paper's detector (arXiv 2401.09417, section 4.3). Modules and parameters carry
the names of its published code.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vimserve.kernels.paste_masks import paste_masks
from vimserve.model.batch import PackedBatch, to_device
from vimserve.model.detections import MOST, Selection
from vimserve.model.families.backbones import build_backbone
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.heads import RoIHeads
from vimserve.model.families.cascade.pyramid import (
    PooledLevels,
    SimpleFeaturePyramid,
    coarsest,
)
from vimserve.model.families.cascade.rpn import MOST as PROPOSALS
from vimserve.model.families.cascade.rpn import ProposalGenerator
from vimserve.model.families.cascade.second_stage import detect
from vimserve.model.layout import Grid
from vimserve.model.served import Answers, MapSize, ServedModel, Wanted

# The dense part takes images together up to this many patches of them, so that many images need no
# more memory than a large one.
BUNDLE_PATCHES = 8192
# What is there at once for each score (4 bytes as it is, for its class, in order; 8 and 4 for the
# order itself, and what sorting takes) and for each pixel of a mask, from logits to the answer.
SCORE_BYTES, MASK_BYTES = 64, 28


class CascadeDetector(ServedModel):
    """A detector; forward only.

    The backbone runs over the packed tokens of all images, pyramid and region proposals over images
    of equal grids together, and the heads over the proposals of several images.

    On a GPU the heads take every image's full number of proposals, so that no pass waits for the
    device to tell how many there are; on a CPU only those that there are. ``fixed_shapes`` lets a
    CPU do as a GPU does.
    """

    config: CascadeConfig
    fixed_shapes = False

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__(config)
        net = build_backbone(config.backbone)
        delattr(net, net.final_norm)  # as published: the features are not normalised
        self.backbone = SimpleFeaturePyramid(net, config.channels)
        self.proposal_generator = ProposalGenerator(config.channels)
        self.roi_heads = RoIHeads(
            config.channels, config.box_width, config.num_classes, masks=config.masks
        )

    @torch.inference_mode()
    def answer(self, batch: PackedBatch, wanted: Sequence[Wanted | None]) -> Answers:
        """The detections of every image, ``[1, most, 6 + 28 * 28]`` each.

        The rows are those of ``model.detections.pack``; without masks they have 6 columns. An
        image for which no ``Selection`` is wanted gets that of ``whole`` for all its pixels.

        Raises:
            ValueError: if the patches are not of this model's size, or masks are wanted of a
                detector without a mask head.
        """
        selections = [
            of if isinstance(of, Selection) else self.whole(self.config.backbone.image_size(grid))
            for of, grid in zip(wanted, batch.grids, strict=True)
        ]
        if not self.config.masks and any(selection.masks for selection in selections):
            raise ValueError("the model has no mask head: it cannot make masks")
        outputs: dict[int, Tensor] = {}
        finite: dict[int, Tensor] = {}
        with self.running(batch):
            features = self.last_features(batch).split([rows * cols for rows, cols in batch.grids])
            for bundle in bundles(batch.grids):
                of_bundle = self.detect(
                    [features[i] for i in bundle],
                    [batch.grids[i] for i in bundle],
                    [selections[i] for i in bundle],
                )
                for i, rows, good in zip(bundle, *of_bundle, strict=True):
                    outputs[i], finite[i] = rows[None], good
        order = range(len(wanted))
        return Answers([outputs[i] for i in order], torch.stack([finite[i] for i in order]))

    @torch.inference_mode()
    def last_features(self, batch: PackedBatch) -> Tensor:
        """The backbone's last features ``[T, D]`` of all patches, not normalised.

        Raises:
            ValueError: if the patches are not of this model's size.
        """
        net = self.backbone.net
        tokens, layout = net.embed(batch)
        features = net.last_features(tokens, layout)
        if not self.config.backbone.class_tokens:
            return features
        return features.index_select(0, layout.patch_rows(len(batch.patches)))

    def detect(
        self, features: Sequence[Tensor], grids: Sequence[Grid], selections: Sequence[Selection]
    ) -> tuple[list[Tensor], Tensor]:
        """The detections of N images, of which those of equal grids are neighbours.

        Args:
            features: of each image's patches, ``[rows * columns, D]``.
            grids: of the images.
            selections: which detections of each image are wanted.

        Returns:
            Rows as of ``answer``, ``[most, …]`` of each image, and whether all boxes and scores
            of an image are finite, ``[N]``.
        """
        device = features[0].device
        edges = [side for of in selections for side in of.size]
        sizes = to_device(edges, device, torch.float32).view(-1, 2)
        levels = PooledLevels.empty(grids, self.config.channels, features[0])
        proposals = []
        for begin, end in runs(grids):
            own = levels.of_images(begin, end)
            self.backbone(torch.stack(list(features[begin:end])).unflatten(1, grids[begin]), own)
            own.append(coarsest(own[-1]))
            proposals.append(self.proposal_generator(own, sizes[begin:end]))
        boxes, logits, finite = (torch.cat(parts) for parts in zip(*proposals, strict=True))
        found, of_heads = detect(
            self.roi_heads, levels, boxes, logits.isfinite(), sizes, selections,
            compact=device.type == "cpu" and not self.fixed_shapes,
        )  # fmt: skip
        return found, finite & of_heads

    def warm_up(self) -> None:
        """As ``ServedModel.warm_up``, and what makes pixels of the masks on the host."""
        super().warm_up()
        if self.config.masks:
            paste_masks(torch.zeros(1, 2, 2), torch.zeros(1, 4), (1, 1))

    def whole(self, size: MapSize) -> Selection:
        """As ``ServedModel.whole``."""
        return Selection(size, masks=self.config.masks)

    def costliest(self, size: MapSize) -> Selection:
        """As ``ServedModel.costliest``: no box is good enough to be left out."""
        return Selection(size, score_threshold=0.0, most=MOST, masks=self.config.masks)

    @property
    def image_bytes(self) -> int:
        """As ``ServedModel.image_bytes``: scores of all proposals, sorted, and the best masks."""
        scores = PROPOSALS * (self.config.num_classes + 1)
        masks = MOST * self.roi_heads.mask_side**2 if self.config.masks else 0
        return SCORE_BYTES * scores + MASK_BYTES * masks

    @property
    def width(self) -> int:
        """Of a token in the backbone's blocks."""
        return self.backbone.net.width

    def num_tokens(self, grid: Grid) -> int:
        """Length of the sequence of an image with this grid of patches."""
        return self.backbone.net.num_tokens(grid)


def bundles(grids: Sequence[Grid]) -> list[list[int]]:
    """Images by their numbers, equal grids together, up to ``BUNDLE_PATCHES`` in a bundle."""
    by_grid: dict[Grid, list[int]] = {}
    for image, grid in enumerate(grids):
        by_grid.setdefault(grid, []).append(image)
    made: list[list[int]] = []
    room = 0
    for (rows, cols), images in by_grid.items():
        for image in images:
            room -= rows * cols
            if room < 0:
                made.append([])
                room = BUNDLE_PATCHES - rows * cols
            made[-1].append(image)
    return made


def runs(grids: Sequence[Grid]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal grids."""
    begin = 0
    for end in range(1, len(grids) + 1):
        if end == len(grids) or grids[end] != grids[begin]:
            yield begin, end
            begin = end
