"""Convolutions over maps whose channels lie side by side, with weights laid out once."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vimserve.model.linear import takes_blocked

_mkldnn: Any = torch.ops.mkldnn
_ONES = [1, 1]


def fold(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what both do.

    They are computed in float64 and have the convolution's dtype.
    """
    weight, bias, mean, var, scale, shift = (
        None if tensor is None else tensor.detach().double()
        for tensor in (
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias
        )
    )  # fmt: skip
    assert weight is not None
    assert mean is not None
    assert var is not None
    folded = fuse_conv_bn_weights(
        weight, bias, mean, var, norm.eps, scale, shift,
        transpose=isinstance(conv, nn.ConvTranspose2d),
    )  # fmt: skip
    exact_weight, exact_bias = (parameter.detach() for parameter in folded)
    return exact_weight.to(conv.weight.dtype), exact_bias.to(conv.weight.dtype)


class PreparedConv:
    """A 3 x 3 convolution, and then the activation.

    On a CPU the weight is stored in oneDNN's blocked layout and the activation is part of the
    convolution. The result is in the dtype of the weight, to which inputs are rounded.

    Args:
        weight: ``[outputs, inputs, 3, 3]``.
        bias: ``[outputs]``.
        activation: of the result.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: Literal["none", "relu"] = "none",
    ) -> None:
        # Without detach, a reordered weight would keep the parameter's autograd history.
        weight = weight.detach()
        self._blocked = takes_blocked(weight)
        self._weight = (
            _mkldnn._reorder_convolution_weight(weight, _ONES, _ONES, _ONES, 1)
            if self._blocked
            else weight.contiguous(memory_format=torch.channels_last)
        )
        self._bias = None if bias is None else bias.detach()
        self._activation, self._dtype = activation, weight.dtype

    def __call__(self, maps: Tensor, *, above: bool = True, below: bool = True) -> Tensor:
        """``[N, H, W, inputs]`` to ``[N, H', W, outputs]``, with zeros to the left and right.

        H' is H where there are zeros above and below as well, and one less for each that is false:
        there, the first or the last row is a neighbour of the map, and not convolved itself.
        """
        maps = maps.to(self._dtype)
        if above != below:
            maps = F.pad(maps, (0, 0, 0, 0, int(above), int(below)))
        padding = [int(above and below), 1]
        planes = maps.contiguous().permute(0, 3, 1, 2)
        if self._blocked:
            out: Tensor = _mkldnn._convolution_pointwise(
                planes, self._weight, self._bias, padding, _ONES, _ONES, 1,
                self._activation, [], "",
            )  # fmt: skip
        else:
            out = F.conv2d(planes, self._weight, self._bias, padding=padding)
            if self._activation == "relu":
                out.relu_()
        return out.permute(0, 2, 3, 1)


class FusedConv:
    """A convolution of maps of any size, a sum and a ReLU; on a CPU they are one operation.

    The weight keeps its usual layout. The blocked one that is fastest depends on the width of the
    maps: with that of another width oneDNN takes up to twenty times as long (PyTorch 2.13).

    Args:
        weight: ``[outputs, inputs, k, k]``, k odd; the result is in its dtype.
        bias: ``[outputs]``.
        stride: in rows and columns.
        relu: whether there is one.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, *, relu: bool = True) -> None:
        self._weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = bias.detach()
        self._stride, self._padding = [stride, stride], [weight.shape[-1] // 2] * 2
        self._fuses, self._relu = takes_blocked(weight), relu

    def __call__(self, maps: Tensor, onto: Tensor | None = None) -> Tensor:
        """``[N, inputs, H, W]``, channels last, to ``[N, outputs, H', W']``, zeros all around.

        Args:
            maps: what is convolved, in the weight's dtype.
            onto: maps of the result's size that it is added to before the ReLU; they become the
                result.
        """
        if not self._fuses:
            made = F.conv2d(maps, self._weight, self._bias, self._stride, self._padding)
            made = made if onto is None else onto.add_(made)
            return made.relu_() if self._relu else made
        shape = self._padding, self._stride, _ONES, 1
        operands = maps, self._weight, self._bias, *shape
        if onto is None:
            out: Tensor = _mkldnn._convolution_pointwise(
                *operands, "relu" if self._relu else "none", [], ""
            )
            return out
        _mkldnn._convolution_pointwise_.binary(
            onto, *operands, "add", 1.0, "relu" if self._relu else None, [], ""
        )
        return onto
