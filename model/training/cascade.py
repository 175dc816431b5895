"""Vim + Cascade Mask R-CNN with gradients, for batches of equal sizes, in float32.

It computes what ``model.families.cascade`` does for an image's own rectangle. Parameters have the
published names, so the state dict is the checkpoint that the server loads.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.config import VimConfig
from vimserve.model.families.cascade.config import CascadeConfig
from vimserve.model.families.cascade.heads import WEIGHTS
from vimserve.model.families.cascade.layers import NORM_EPS
from vimserve.model.families.cascade.pyramid import POOLED, STRIDES
from vimserve.model.families.cascade.rpn import RATIOS
from vimserve.model.training.roi_align import roi_align
from vimserve.model.training.vim import Trunk

# Of the initial weights of what decides, which begins almost undecided.
DEVIATIONS = {
    "objectness_logits": 0.01,
    "anchor_deltas": 0.01,
    "cls_score": 0.01,
    "bbox_pred": 0.001,
    "predictor": 0.001,
}


class ChannelNorm(nn.LayerNorm):
    """Layer norm of the channels of every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same, best channels last."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormedConv(nn.Conv2d):
    """A convolution without bias, and the norm of its channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H, W]``."""
        normed: Tensor = self.norm(super().forward(maps))
        return normed


class Backbone(nn.Module):
    """A Vim and the simple feature pyramid of its last feature."""

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        assert isinstance(config.backbone, VimConfig)
        width, channels = config.backbone.width, config.channels

        def level(inputs: int, *before: nn.Module) -> nn.Sequential:
            convs = NormedConv(inputs, channels, 1), NormedConv(channels, channels, 3)
            return nn.Sequential(*before, *convs)

        def double(inputs: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)

        self.net = Trunk(config.backbone)
        half = width // 2
        norm = ChannelNorm(half)
        self.simfp_2 = level(width // 4, double(width), norm, nn.GELU(), double(half))
        self.simfp_3 = level(half, double(width))
        self.simfp_4 = level(width)
        self.simfp_5 = level(width, nn.MaxPool2d(2, 2))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to ``[N, C, h, w]`` at each of the ``STRIDES``."""
        *_, (_, tokens) = self.net.blocks(images)
        # Tokens are channels-last images already.
        last = tokens.unflatten(1, self.net.grid(images)).permute(0, 3, 1, 2)
        levels = [level(last) for level in (self.simfp_2, self.simfp_3, self.simfp_4, self.simfp_5)]
        return [*levels, levels[-1][:, :, ::2, ::2]]


class RPNHead(nn.Module):
    """What every anchor thinks: whether it has an object, and where that is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.conv = nn.Sequential(OrderedDict(zip(("conv0", "conv1"), convs, strict=True)))
        self.objectness_logits = nn.Conv2d(channels, len(RATIOS), 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * len(RATIOS), 1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, C, h, w]`` to logits ``[N, 3 h w]`` and deltas ``[N, 3 h w, 4]``."""
        hidden = level
        for conv in self.conv:
            hidden = F.relu(conv(hidden))
        logits = self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1).reshape(*logits.shape, 4)
        return logits, deltas


class BoxHead(nn.Module):
    """The features of a stage's boxes."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            NormedConv(channels, channels, 3) for _ in range(4)
        )
        self.fc1 = nn.Linear(channels * 7 * 7, width)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[R, C, 7, 7]`` to ``[R, width]``."""
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            pooled = F.relu(conv(pooled))
        return F.relu(self.fc1(pooled.flatten(1)))


class BoxPredictor(nn.Module):
    """Class scores, the background last, and where the object is, whatever its class."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[R, width]`` to logits ``[R, K + 1]`` and deltas ``[R, 4]``."""
        return self.cls_score(features), self.bbox_pred(features)


class MaskHead(nn.Module):
    """A mask of each class for every box."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4 = (
            NormedConv(channels, channels, 3) for _ in range(4)
        )
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.predictor = nn.Conv2d(channels, num_classes, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[R, C, 14, 14]`` to logits ``[R, K, 28, 28]``."""
        for conv in (self.mask_fcn1, self.mask_fcn2, self.mask_fcn3, self.mask_fcn4):
            pooled = F.relu(conv(pooled))
        masks: Tensor = self.predictor(F.relu(self.deconv(pooled)))
        return masks


class ROIHeads(nn.Module):
    """Three stages for boxes, and masks."""

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        channels, width, classes = config.channels, config.box_width, config.num_classes
        self.box_head = nn.ModuleList(BoxHead(channels, width) for _ in WEIGHTS)
        self.box_predictor = nn.ModuleList(BoxPredictor(width, classes) for _ in WEIGHTS)
        self.mask_head = MaskHead(channels, classes)


class CascadeNetwork(nn.Module):
    """The parts of a detector; a criterion or a test decides which boxes go through them."""

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = nn.Sequential(OrderedDict(rpn_head=RPNHead(config.channels)))
        self.roi_heads = ROIHeads(config)
        for name, module in self.named_modules():
            deviation = DEVIATIONS.get(name.rpartition(".")[2])
            if deviation:
                nn.init.normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Of ``[N, 3, H, W]`` the pyramid ``[N, C, h, w]``, and each level's logits and deltas."""
        pyramid = self.backbone(images)
        return pyramid, [self.proposal_generator(level) for level in pyramid]

    def stage(
        self, index: int, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What a stage says of boxes: logits ``[R, K + 1]`` and deltas ``[R, 4]``.

        Args:
            index: of the stage.
            pyramid: all levels.
            boxes: ``[R, 4]`` in pixels of the input.
            images: ``[R]``, the image of each.
        """
        pooled = roi_align(pyramid[:POOLED], STRIDES[:POOLED], boxes, images, 7)
        logits, deltas = self.roi_heads.box_predictor[index](self.roi_heads.box_head[index](pooled))
        return logits, deltas

    def masks(self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """Mask logits ``[R, K, 28, 28]`` of boxes, as ``stage`` takes them."""
        pooled = roi_align(pyramid[:POOLED], STRIDES[:POOLED], boxes, images, 14)
        logits: Tensor = self.roi_heads.mask_head(pooled)
        return logits

    def start_from_segmenter(self, state: dict[str, Tensor]) -> None:
        """Take the backbone's parameters from a UPerNet on an equal Vim."""
        trunk = self.backbone.net
        names = trunk.state_dict()
        trunk.load_state_dict({name: state[f"backbone.{name}"] for name in names})
