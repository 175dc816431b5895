"""Matrix products with weights packed once, after loading."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_mkldnn: Any = torch.ops.mkldnn


class PackedLinear:
    """``x @ weight.T + bias`` for ``[T, in]`` inputs.

    On a CPU in float32 the weight is stored in oneDNN's blocked layout: at the shapes of a Vim
    block that is a third faster than a plain product, which packs the weight at every call.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._blocked = (
            weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
        )
        # detach: a reordered weight would otherwise keep the parameter's autograd history
        weight = weight.detach()
        self._weight = _mkldnn._reorder_linear_weight(weight) if self._blocked else weight
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """``[T, in]`` contiguous to ``[T, out]``."""
        if self._blocked:
            out: Tensor = _mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return out
        return F.linear(x, self._weight, self._bias)
