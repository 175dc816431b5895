"""Vim + UPerNet with gradients: ``model.families.upernet`` for batches of equal sizes, in float32.

Parameters have the published names, so the state dict is the checkpoint that the server loads.
"""

from torch import Tensor, nn

from vimserve.model.config import UPerNetConfig, VimConfig
from vimserve.model.families.upernet.head import NECKS
from vimserve.model.training.upernet_head import Head, make_necks
from vimserve.model.training.vim import Trunk, without_class_token


class Backbone(Trunk):
    """A Vim without class token, and the necks."""

    def __init__(self, config: VimConfig, out_indices: tuple[int, ...]) -> None:
        super().__init__(config)
        self.out_indices = out_indices
        width = config.width
        self.norm_f = nn.RMSNorm(width, eps=1e-5)  # in the published layout, used by nothing
        self.norm_f.requires_grad_(False)
        for name, neck in make_necks(width).items():
            self.add_module(name, neck)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to ``[N, D, h, w]`` at 1/4, 1/8, 1/16 and 1/32."""
        levels: list[Tensor] = []
        for block, (mixed, _) in enumerate(self.blocks(images)):
            if block in self.out_indices:
                neck = self.get_submodule(NECKS[len(levels)])
                # Tokens are channels-last images already.
                levels.append(neck(mixed.unflatten(1, self.grid(images)).permute(0, 3, 1, 2)))
        return levels


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
        kept = without_class_token(state, self.backbone.config.grid)
        missing, unexpected = self.backbone.load_state_dict(kept, strict=False)
        assert all(name.startswith(NECKS) for name in missing), missing
        assert not unexpected, unexpected
