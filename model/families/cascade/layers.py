"""Layers over maps whose channels lie side by side, ``[N, H, W, C]``."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from vimserve.model.convolution import PreparedConv
from vimserve.model.linear import PreparedLinear
from vimserve.model.prepared import PreparedModule
from vimserve.model.threads import follow_limit

NORM_EPS = 1e-6
STRIP_PIXELS = 8192  # of a map, computed together on a CPU


class NormedLinear(PreparedModule):
    """A 1 x 1 convolution without bias and a LayerNorm over the channels of each pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Conv2d(inputs, outputs, 1).weight)
        self.norm = nn.LayerNorm(outputs, NORM_EPS)
        self._product: PreparedLinear | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, H, W, inputs]`` to ``[N, H, W, outputs]``."""
        self._product = self._product or PreparedLinear(self.weight.flatten(1))
        made: Tensor = self.norm(self._product(maps.reshape(-1, maps.shape[-1])))
        return made.view(*maps.shape[:-1], -1)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._product = None


class NormedConv(PreparedModule):
    """A 3 x 3 convolution without bias and a LayerNorm over the channels of each pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Conv2d(inputs, outputs, 3).weight)
        self.norm = nn.LayerNorm(outputs, NORM_EPS)
        self._conv: PreparedConv | None = None

    def forward(self, maps: Tensor, *, above: bool = True, below: bool = True) -> Tensor:
        """``[N, H, W, inputs]`` to ``[N, H', W, outputs]``, as ``PreparedConv``."""
        self._conv = self._conv or PreparedConv(self.weight)
        follow_limit()
        made: Tensor = self.norm(self._conv(maps, above=above, below=below))
        return made

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._conv = None


class Doubling(PreparedModule):
    """What ``nn.ConvTranspose2d(inputs, outputs, 2, 2)`` computes, and has as parameters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        published = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        assert published.bias is not None
        self.weight, self.bias = published.weight, published.bias
        self._product: PreparedLinear | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, H, W, inputs]`` to ``[N, H, W, 2, 2, outputs]``: four pixels for each."""
        if self._product is None:
            weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
            self._product = PreparedLinear(weight, self.bias.repeat(4))
        made = self._product(maps.reshape(-1, maps.shape[-1]))
        return made.view(*maps.shape[:-1], 2, 2, -1)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._product = None


def in_place(quarters: Tensor) -> Tensor:
    """``[N, H, W, 2, 2, C]`` as maps ``[N, 2 H, 2 W, C]``."""
    return quarters.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Strip(NamedTuple):
    """Rows ``begin`` to ``end`` of a map that has ``height`` of them."""

    begin: int
    end: int
    height: int

    @property
    def rows(self) -> slice:
        """To be taken out of the map."""
        return slice(self.begin, self.end)

    @property
    def first(self) -> bool:
        """Whether nothing is above."""
        return self.begin == 0

    @property
    def last(self) -> bool:
        """Whether nothing is below."""
        return self.end == self.height

    def widened(self) -> "Strip":
        """With the neighbouring rows, as far as there are any."""
        return Strip(max(self.begin - 1, 0), min(self.end + 1, self.height), self.height)


def strips(maps: Tensor) -> Iterator[Strip]:
    """Strips of maps ``[N, H, W, C]``, on a CPU of about ``STRIP_PIXELS`` in all N.

    They bound the memory of what is made in between, and it stays closer to the processor.
    """
    N, H, W, _ = maps.shape
    rows = H if maps.device.type != "cpu" else max(STRIP_PIXELS // (N * W), 4)
    for begin in range(0, H, rows):
        follow_limit()
        yield Strip(begin, min(begin + rows, H), H)
