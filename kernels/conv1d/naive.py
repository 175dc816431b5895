"""The reference: PyTorch's convolution, one sequence at a time."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, reverse: Sequence[bool]
) -> Tensor:
    """See ``kernels.conv1d``; computes in float32."""
    out = torch.empty(len(reverse), *x.shape, dtype=x.dtype, device=x.device)
    for k, backward in enumerate(reverse):
        taps = weight[k].float()
        for begin, end in pairwise(cu_seqlens.unique().tolist()):  # unique: skip empty ones
            sequence = x[begin:end].float().T
            padded = F.pad(sequence.flip(1) if backward else sequence, (taps.shape[1] - 1, 0))
            y = F.conv1d(padded, taps[:, None], bias[k].float(), groups=len(taps))
            out[k, begin:end] = F.silu(y.flip(1) if backward else y).T
    return out
