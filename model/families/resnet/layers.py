"""The parts of a ResNet, under torchvision's names; batch norms are folded into convolutions."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from vimserve.model.checkpoint import CheckpointError
from vimserve.model.convolution import FusedConv, fold
from vimserve.model.prepared import PreparedModule


class ExactNorm(nn.BatchNorm2d):
    """A batch norm that casts leave in float32, for it is only read to be folded."""

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        before = {name: t.detach() for name, t in self.state_dict(keep_vars=True).items()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, exact in before.items():
            tensor = getattr(self, name)
            if tensor.dtype != exact.dtype:
                tensor.data = exact.to(tensor.device)
        return self


class Bottleneck(PreparedModule):
    """Three convolutions beside a shortcut; with a stride, the second one and the shortcut have it.

    Args:
        inputs: channels.
        inner: channels between the convolutions.
        outputs: channels.
        stride: in rows and columns.
        project: whether there is a convolution in the shortcut.
    """

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int = 1, *, project: bool = False
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = bare_conv(inputs, inner, 1), ExactNorm(inner)
        self.conv2, self.bn2 = bare_conv(inner, inner, 3, stride), ExactNorm(inner)
        self.conv3, self.bn3 = bare_conv(inner, outputs, 1), ExactNorm(outputs)
        self.downsample: nn.Sequential | None = None
        if project:
            self.downsample = nn.Sequential(
                bare_conv(inputs, outputs, 1, stride), ExactNorm(outputs)
            )
        self._prepared: tuple[FusedConv, ...] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """``[N, inputs, H, W]``, channels last, to ``[N, outputs, H', W']``.

        Without a convolution in the shortcut ``maps`` become the result.
        """
        reduce, spread, expand, *shortcut = self._prepared = self._prepared or self._prepare()
        beside = shortcut[0](maps) if shortcut else maps
        return expand(spread(reduce(maps)), onto=beside)

    def _prepare(self) -> tuple[FusedConv, ...]:
        made = (
            folded(self.conv1, self.bn1),
            folded(self.conv2, self.bn2),
            folded(self.conv3, self.bn3),
        )
        if self.downsample is None:
            return made
        conv, norm = self.downsample
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, ExactNorm)
        return *made, FusedConv(*_finite(*fold(conv, norm)), conv.stride[0], relu=False)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._prepared = None


def bare_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, with zeros all around."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> FusedConv:
    """A convolution, its batch norm and a ReLU as one operation.

    Raises:
        CheckpointError: if a weight is no finite number.
    """
    return FusedConv(*_finite(*fold(conv, norm)), conv.stride[0])


def _finite(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same; a fused ReLU would make zeros of what comes of other numbers, and hide them."""
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise CheckpointError("the weights of a convolution are not all finite numbers")
    return weight, bias
