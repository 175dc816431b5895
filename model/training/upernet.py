"""Vim + UPerNet with gradients: ``model.families.upernet`` for batches of equal sizes, in float32.

Parameters have the published names, so the state dict is the checkpoint that the server loads.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.config import UPerNetConfig, VimConfig
from vimserve.model.families.upernet.head import NECKS, UPerHead
from vimserve.model.training.vim import Layer, PatchEmbed, resized_positions


def conv_module(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU under their published names."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, activate=nn.ReLU(inplace=True)))


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, C, H, W]`` to another height and width, bilinearly, unless it has them already."""
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


class Backbone(nn.Module):
    """A Vim without class token, and the necks."""

    def __init__(self, config: VimConfig, out_indices: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.out_indices = config, out_indices
        width, (rows, cols) = config.width, config.grid
        self.pos_embed = nn.Parameter(torch.randn(1, rows * cols, width) * 0.02)
        self.patch_embed = PatchEmbed(width, config.patch_size)
        self.layers = nn.ModuleList(Layer(width, config.states) for _ in range(config.depth))
        self.norm_f = nn.RMSNorm(width, eps=1e-5)  # in the published layout, used by nothing
        self.norm_f.requires_grad_(False)

        def double() -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(width, width, 2, 2)

        self.fpn1 = nn.Sequential(double(), nn.BatchNorm2d(width), nn.GELU(), double())
        self.fpn2 = nn.Sequential(double())
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to ``[N, D, h, w]`` at 1/4, 1/8, 1/16 and 1/32."""
        side = self.config.patch_size
        grid = (images.shape[2] // side, images.shape[3] // side)
        residual = self.patch_embed(images)
        residual = residual + resized_positions(self.pos_embed, self.config.grid, grid)
        levels: list[Tensor] = []
        for block, layer in enumerate(self.layers):
            mixed = layer(residual)
            if block in self.out_indices:
                neck = self.get_submodule(NECKS[len(levels)])
                # Tokens are channels-last images already.
                levels.append(neck(mixed.unflatten(1, grid).permute(0, 3, 1, 2)))
            residual = residual + mixed
        return levels


class Head(UPerHead):
    """The served head, but with gradients."""

    def __init__(self, width: int, channels: int, num_classes: int) -> None:
        super().__init__(width, channels, num_classes, conv_module)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Four levels, the finest first, to class scores of the finest's size."""
        *finer, coarsest = levels
        pooled = [resize(pool(coarsest), coarsest.shape[2:]) for pool in self.psp_modules]
        above = self.bottleneck(torch.cat((coarsest, *pooled), dim=1))
        pyramid = [above]
        for level, lateral, smooth in zip(
            reversed(finer), reversed(self.lateral_convs), reversed(self.fpn_convs), strict=True
        ):
            above = lateral(level) + resize(above, level.shape[2:])
            pyramid.insert(0, smooth(above))
        fused = torch.cat([resize(level, finer[0].shape[2:]) for level in pyramid], dim=1)
        scores: Tensor = self.conv_seg(F.dropout2d(self.fpn_bottleneck(fused), 0.1, self.training))
        return scores


class SegmentationNetwork(nn.Module):
    """Images ``[N, 3, H, W]`` to class scores ``[N, classes, H / 4, W / 4]``."""

    def __init__(self, config: UPerNetConfig) -> None:
        super().__init__()
        assert isinstance(config.backbone, VimConfig)
        self.config = config
        self.backbone = Backbone(config.backbone, config.out_indices)
        self.decode_head = Head(config.backbone.width, config.channels, config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]``, sides that are multiples of the patch's, to ``[N, classes, h, w]``."""
        scores: Tensor = self.decode_head(self.backbone(images))
        return scores

    def start_from_classifier(self, state: dict[str, Tensor]) -> None:
        """Take the backbone's parameters from a Vim that classifies by a token in the middle."""
        rows, cols = self.backbone.config.grid
        middle = rows * cols // 2
        positions = state["pos_embed"]
        kept = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        del kept["cls_token"]
        kept["pos_embed"] = torch.cat((positions[:, :middle], positions[:, middle + 1 :]), dim=1)
        missing, unexpected = self.backbone.load_state_dict(kept, strict=False)
        assert all(name.startswith(NECKS) for name in missing), missing
        assert not unexpected, unexpected
