"""The head of a UPerNet with gradients, necks included, on features that are given."""

from torch import Tensor, nn

from vimserve.model.families.upernet.config import FEATURES, UPerNetConfig
from vimserve.model.heads.pixels.head import PixelHead
from vimserve.model.training.upernet_head import Head, make_necks


class UPerNetHead(PixelHead):
    """The necks and the head of a ``UPerNetSegmenter``.

    Args:
        config: of the model that is served.
    """

    def __init__(self, config: UPerNetConfig) -> None:
        super().__init__()
        width = config.backbone.width
        self.backbone = nn.ModuleDict(make_necks(width))
        self.decode_head = Head(width, config.channels, config.num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, rows, columns, F]`` to ``[N, classes, 4 * rows, 4 * columns]``."""
        blocks = maps.permute(0, 3, 1, 2).chunk(FEATURES, 1)
        levels = [neck(block) for neck, block in zip(self.backbone.values(), blocks, strict=True)]
        scores: Tensor = self.decode_head(levels)
        return scores

    def served(self) -> dict[str, Tensor]:
        """What the served model has of it, by the names there."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}
