"""The second stage: three box heads in a cascade (arXiv 1712.00726) and a mask head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.families.cascade.boxes import decode
from vimserve.model.families.cascade.layers import Doubling, NormedConv
from vimserve.model.families.cascade.pyramid import PooledLevels
from vimserve.model.linear import PreparedLinear
from vimserve.model.prepared import PreparedModule

CONVS = ("conv1", "conv2", "conv3", "conv4")
MASK_CONVS = ("mask_fcn1", "mask_fcn2", "mask_fcn3", "mask_fcn4")
WEIGHTS = ((10.0, 5.0), (20.0, 10.0), (30.0, 15.0))  # of shifts and growths
STAGES = len(WEIGHTS)
BOX_SIDE, MASK_SIDE = 7, 14  # bins that a box is pooled into
BOXES, MASKS = 256, 32  # computed together, which bounds the memory


class BoxHead(PreparedModule):
    """Four convolutions and a fully connected layer; published names."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        for name in CONVS:
            self.add_module(name, NormedConv(channels, channels))
        self.fc1 = nn.Linear(channels * BOX_SIDE * BOX_SIDE, width)
        self._product: PreparedLinear | None = None

    def forward(self, pooled: Tensor) -> Tensor:
        """``[R, 7, 7, C]`` to ``[R, width]``."""
        for name in CONVS:
            pooled = self.get_submodule(name)(pooled).relu_()
        if self._product is None:
            # Its inputs were ordered by channel, row and column; here the channel is last.
            weight = self.fc1.weight.unflatten(1, (-1, BOX_SIDE * BOX_SIDE)).mT.flatten(1)
            self._product = PreparedLinear(weight, self.fc1.bias, "relu")
        return self._product(pooled.flatten(1))

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._product = None


class BoxPredictor(nn.Module):
    """Class logits, the background's last, and four deltas whatever the class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[R, width]`` to ``[R, classes + 1]`` and ``[R, 4]``, computed in float32."""
        logits, deltas = (
            F.linear(features.float(), of.weight.float(), of.bias.float())
            for of in (self.cls_score, self.bbox_pred)
        )
        return logits, deltas


class MaskHead(nn.Module):
    """Four convolutions, twice the side, and for each class a logit; published names."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        for name in MASK_CONVS:
            self.add_module(name, NormedConv(channels, channels))
        self.deconv = Doubling(channels, channels)
        self.predictor = nn.Conv2d(channels, num_classes, 1)

    def forward(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """``[R, 14, 14, C]`` to logits ``[R, 28, 28]`` of classes ``[R]``, float32."""
        for name in MASK_CONVS:
            pooled = self.get_submodule(name)(pooled).relu_()
        quarters = self.deconv(pooled).relu_()
        # Only the wanted class's channel is computed, and only this is put in its place.
        weight = self.predictor.weight[classes].flatten(1)
        assert self.predictor.bias is not None
        bias = self.predictor.bias[classes]
        logits = torch.bmm(quarters.flatten(1, 4), weight[:, :, None]).view(quarters.shape[:-1])
        logits = (logits + bias[:, None, None, None, None]).float()
        return logits.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class RoIHeads(nn.Module):
    """All heads over boxes of pooled levels; published names."""

    def __init__(self, channels: int, width: int, num_classes: int, *, masks: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        stages = range(STAGES)
        self.box_head = nn.ModuleList(BoxHead(channels, width) for _ in stages)
        self.box_predictor = nn.ModuleList(BoxPredictor(width, num_classes) for _ in stages)
        self.mask_head = MaskHead(channels, num_classes) if masks else None

    @property
    def mask_side(self) -> int:
        """Rows and columns of a mask."""
        return 2 * MASK_SIDE

    def refine(
        self, stage: int, levels: PooledLevels, boxes: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One stage of the cascade.

        Args:
            stage: from 0.
            levels: of N images.
            boxes: ``[R, 4]``.
            images: int32 ``[R]``, R at least 1.

        Returns:
            Class logits ``[R, classes + 1]``, deltas ``[R, 4]`` and the boxes that they make
            ``[R, 4]``, which are not clipped.
        """
        head, predictor = self.box_head[stage], self.box_predictor[stage]
        dtype = next(head.parameters()).dtype
        made = [
            predictor(head(levels.pool(some, of, BOX_SIDE).to(dtype)))
            for some, of in zip(boxes.split(BOXES), images.split(BOXES), strict=True)
        ]
        logits, deltas = (torch.cat(parts) for parts in zip(*made, strict=True))
        return logits, deltas, decode(deltas, boxes, WEIGHTS[stage])

    def mask_logits(
        self, levels: PooledLevels, boxes: Tensor, images: Tensor, classes: Tensor
    ) -> Tensor:
        """Logits float32 ``[R, 28, 28]`` of the masks of boxes ``[R, 4]``, R at least 1."""
        assert self.mask_head is not None
        dtype = self.mask_head.predictor.weight.dtype
        parts = zip(*(of.split(MASKS) for of in (boxes, images, classes)), strict=True)
        return torch.cat(
            [
                self.mask_head(levels.pool(some, of, MASK_SIDE).to(dtype), which)
                for some, of, which in parts
            ]
        )
