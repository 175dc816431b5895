"""Matrix products whose weights are laid out once, after loading."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vimserve.model.bfloat16 import multiplies_bfloat16
from vimserve.model.prepared import PreparedModule

Activation = Literal["none", "gelu", "relu"]

_mkldnn: Any = torch.ops.mkldnn


class PreparedLinear:
    """``x @ weight.T + bias`` for ``[T, in]`` inputs, and then the activation.

    The product is in the dtype of the weight, to which inputs are rounded; ``result`` is the dtype
    of what it returns, if not that.

    On a CPU the weight is stored in oneDNN's blocked layout and the activation is part
    of the product. At the shapes of a Vim block this is a third faster than a plain product, which
    reorders the weight at every call. ``gelu`` is the exact one, with the error function. On a GPU
    the bias is part of the product, and ``gelu`` is a kernel of its own: cuBLASLt's epilogue, which
    ``torch._addmm_activation`` uses, is the tanh approximation, which is off by up to 5e-4.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: Activation = "none",
        result: torch.dtype | None = None,
    ) -> None:
        # Without detach, a reordered weight would keep the parameter's autograd history.
        weight = weight.detach()
        self._blocked = takes_blocked(weight)
        self._weight = _mkldnn._reorder_linear_weight(weight) if self._blocked else weight
        self._bias = None if bias is None else bias.detach()
        self._activation = activation
        self._dtype, self._result = weight.dtype, result or weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, in]`` contiguous to ``[T, out]``."""
        x = x.to(self._dtype)
        if self._blocked:
            out: Tensor = _mkldnn._linear_pointwise(
                x, self._weight, self._bias, self._activation, [], "none"
            )
        else:
            out = F.linear(x, self._weight, self._bias)
            if self._activation == "gelu":
                # In place, because the result is the widest tensor of a block.
                torch.ops.aten.gelu_(out)
            elif self._activation == "relu":
                out.relu_()
        return out.to(self._result)


class Linear(nn.Linear, PreparedModule):
    """An ``nn.Linear``, names included, that computes with a ``PreparedLinear`` of its weights."""

    def __init__(self, inputs: int, outputs: int, activation: Activation = "none") -> None:
        super().__init__(inputs, outputs)
        self._activation = activation
        self._prepared: PreparedLinear | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``[T, in]`` contiguous to ``[T, out]``."""
        if self._prepared is None:
            self._prepared = PreparedLinear(self.weight, self.bias, self._activation)
        return self._prepared(x)

    def forget_prepared(self) -> None:
        """Drop what was derived from parameters that have changed."""
        self._prepared = None


class PreparedLinears:
    """``x[k] @ weights[k].T`` for ``[K, T, in]`` inputs, in one product on a GPU.

    The result is float32, whatever the operands are (but float64): a GPU keeps the sums in float32
    anyway, and the scan, which reads the result, computes in float32.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._apart: list[PreparedLinear] | None = None
        if weights[0].device.type == "cpu":
            result = torch.promote_types(weights[0].dtype, torch.float32)
            self._apart = [PreparedLinear(weight, result=result) for weight in weights]
        self._stacked = torch.stack(list(weights)).detach().mT if self._apart is None else None

    def __call__(self, x: Tensor) -> Tensor:
        """``[K, T, in]`` contiguous to ``[K, T, out]``."""
        if self._apart is not None:
            return torch.stack([project(x_k) for project, x_k in zip(self._apart, x, strict=True)])
        assert self._stacked is not None
        if x.dtype == torch.float32:
            return torch.bmm(x, self._stacked)
        return torch.bmm(x, self._stacked, out_dtype=torch.float32)


def takes_blocked(weight: Tensor) -> bool:
    """Whether oneDNN computes with this weight, in a layout of its own."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and multiplies_bfloat16()
    )
