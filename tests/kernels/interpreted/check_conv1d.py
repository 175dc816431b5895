import pytest
import torch

from tests.kernels.interpreted.operands import assert_as_good, boundaries
from vimserve.kernels.conv1d import naive, triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reverse", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("E", [16, 48, 96])
def test_as_good_as_the_reference(E: int, reverse: tuple[bool, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(E)
    cu_seqlens, K = boundaries(17, 0, 100), len(reverse)
    x = torch.randn(int(cu_seqlens[-1]), 2 * E).to(dtype)[:, :E]
    weight, bias = torch.randn(K, E, 4).to(dtype), torch.randn(K, E).to(dtype)

    actual = triton.conv1d(x, weight, bias, cu_seqlens, reverse)

    assert_as_good(
        "conv1d",
        actual,
        naive.conv1d(x, weight, bias, cu_seqlens, reverse),
        naive.conv1d(x.float(), weight.float(), bias.float(), cu_seqlens, reverse),
    )
