"""Matrix products with weights packed once, after loading."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu"]

_mkldnn: Any = torch.ops.mkldnn


class PackedLinear:
    """``x @ weight.T + bias`` for ``[T, in]`` inputs, and what follows it, in one pass on a CPU.

    On a CPU in float32 the weight is stored in oneDNN's blocked layout: at the shapes of a Vim
    block that is a third faster than a plain product, which packs the weight at every call.
    ``gelu`` is the exact one, by the error function.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none"
    ) -> None:
        # detach: a reordered weight would otherwise keep the parameter's autograd history
        weight = weight.detach()
        self._blocked = _takes_blocked(weight)
        self._weight = _mkldnn._reorder_linear_weight(weight) if self._blocked else weight
        self._bias = None if bias is None else bias.detach()
        self._activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, in]`` contiguous to ``[T, out]``."""
        if self._blocked:
            out: Tensor = _mkldnn._linear_pointwise(
                x, self._weight, self._bias, self._activation, [], "none"
            )
            return out
        out = F.linear(x, self._weight, self._bias)
        return F.gelu(out) if self._activation == "gelu" else out


class Linear(nn.Linear):
    """An ``nn.Linear``, with its names, that runs as a ``PackedLinear`` made at the first call."""

    def __init__(self, inputs: int, outputs: int, activation: Activation = "none") -> None:
        super().__init__(inputs, outputs)
        self._activation = activation
        self._packed: PackedLinear | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``[T, in]`` contiguous to ``[T, out]``."""
        if self._packed is None:
            self._packed = PackedLinear(self.weight, self.bias, self._activation)
        return self._packed(x)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._packed = None


class PackedLinears:
    """``x[k] @ weights[k].T`` for ``[K, T, in]`` inputs, in one product on a GPU.

    There the result is float32 whatever the operands are: the sums are kept in float32 anyway, and
    what reads them next, the scan, computes in float32.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._apart = [PackedLinear(w) for w in weights] if _takes_blocked(weights[0]) else None
        self._stacked = torch.stack(list(weights)).detach().mT if self._apart is None else None

    def __call__(self, x: Tensor) -> Tensor:
        """``[K, T, in]`` contiguous to ``[K, T, out]``."""
        if self._apart is not None:
            return torch.stack([project(x_k) for project, x_k in zip(self._apart, x, strict=True)])
        assert self._stacked is not None
        if x.dtype == torch.float32 or x.device.type == "cpu":
            return torch.bmm(x, self._stacked)
        return torch.bmm(x, self._stacked, out_dtype=torch.float32)


def _takes_blocked(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
    )
