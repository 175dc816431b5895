"""A linear head with gradients, for ``families.linear``."""

import torch
from torch import Tensor, nn

from vimserve.model.families.linear.config import LinearConfig
from vimserve.model.families.linear.model import BIAS, CELLS_A_PATCH, WEIGHT, cells
from vimserve.model.heads.pixels.head import PixelHead

LEAST_DEVIATION = 1e-6


class LinearHead(PixelHead):
    """The head of a ``LinearSegmenter``; it starts from scores of zero.

    Args:
        config: of the model that is served.
        mean: of each feature ``[F]``, which is subtracted from it.
        deviation: of each feature ``[F]``, by which it is divided.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: LinearConfig, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(config.features, CELLS_A_PATCH * config.num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation.clamp(min=LEAST_DEVIATION))

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, rows, columns, F]`` to ``[N, classes, 4 * rows, 4 * columns]``."""
        scores = self.linear((maps - self.mean) / self.deviation)
        return cells(scores.flatten(1, 2), (maps.shape[1], maps.shape[2]))

    def served(self) -> dict[str, Tensor]:
        """What the served model has of it, by the names there; it takes features as they are."""
        weight = self.linear.weight.detach().double() / self.deviation
        bias = self.linear.bias.detach() - weight @ self.mean.double()
        return {WEIGHT: weight.float(), BIAS: bias.float()}


def moments(count: int, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of features, float32, from float64 sums over patches."""
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return mean.float(), torch.sqrt(variance).float()
