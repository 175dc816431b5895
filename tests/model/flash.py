"""A stand-in for PyTorch's flash attention over packed sequences, which CPUs do not have."""

import itertools

import pytest
import torch
import torch.nn.attention.varlen
import torch.nn.functional as F
from torch import Tensor

from vimserve.model.families.deit import attention


class Flash:
    """``varlen_attn`` for any dtype, with the demands and the silence of PyTorch's.

    Its result is undefined, here not a number, from a sequence's token ``max_q`` on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", self)
        monkeypatch.setattr(attention, "has_packed_attention", lambda *_: True)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, q_bounds: Tensor, k_bounds: Tensor, q_max: int,
        k_max: int,
    ) -> Tensor:  # fmt: skip
        self.calls += 1
        assert q_bounds.dtype == k_bounds.dtype == torch.int32
        assert q_bounds.is_contiguous()
        assert q.ndim == 3
        assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        out = torch.full(q.shape, torch.nan)
        bounds = q_bounds.tolist()
        for begin, end in itertools.pairwise(bounds):
            one, keys, values = (x[begin:end].transpose(0, 1) for x in (q, k, v))
            mixed = F.scaled_dot_product_attention(one, keys, values).transpose(0, 1)
            out[begin : min(end, begin + q_max)] = mixed[:q_max]
        return out
