"""Ragged operands, and the rule by which low precision is judged."""

import torch
from torch import Tensor

from tests.closeness import assert_close

# An empty sequence pads a CUDA graph's bucket; the last one begins where a chunk may.
LENGTHS = (1, 2, 3, 18, 0, 39)
FLOAT32_BOUND = 1e-5
# The interpreter cuts float32 down to bfloat16 where a GPU rounds: up to a unit in the last place.
CUT = {torch.float16: 0.0, torch.bfloat16: 2**-7}


def boundaries(*more: int) -> Tensor:
    """``cu_seqlens`` of sequences of these lengths, and of more."""
    return torch.tensor((0, *LENGTHS, *more)).cumsum(0).int()


def assert_as_good(name: str, actual: Tensor, naive: Tensor, exact: Tensor) -> None:
    """``actual`` and ``naive`` are of one dtype, ``exact`` is the reference in float32."""
    assert actual.dtype == naive.dtype
    scale = exact.abs().max().item()
    atol = FLOAT32_BOUND * scale
    if actual.dtype != torch.float32:
        atol = 2 * (naive.float() - exact).abs().max().item() + CUT[actual.dtype] * scale
    assert_close(name, actual.float(), exact, atol=atol)
