"""What is trained: a head with gradients, on features that are given."""

import abc

from torch import Tensor, nn


class PixelHead(nn.Module, abc.ABC):
    """Patches' features ``[N, rows, columns, F]`` to ``[N, classes, 4 * rows, 4 * columns]``."""

    @abc.abstractmethod
    def forward(self, maps: Tensor) -> Tensor:
        """``[N, rows, columns, F]`` to ``[N, classes, 4 * rows, 4 * columns]``."""

    @abc.abstractmethod
    def served(self) -> dict[str, Tensor]:
        """What the served model has of it, by the names there."""
