import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.interpreted.operands import assert_as_good
from vimserve.kernels.add_norm import naive, triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("T", "D"), [(1, 16), (17, 48), (100, 192)])
def test_as_good_as_the_reference(T: int, D: int, first: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(T)
    hidden, weight = torch.randn(T, D).to(dtype), torch.randn(D).to(dtype)
    residual = None if first else torch.randn(T, D)

    def given() -> torch.Tensor | None:
        return None if residual is None else residual.clone()

    naive_normed, _ = naive.add_norm(hidden, given(), weight)
    exact, exact_sum = naive.add_norm(hidden.float(), given(), weight.float())
    stream = given()
    normed, summed = triton.add_norm(hidden, stream, weight)

    assert stream is None or summed is stream
    assert summed.dtype == torch.float32
    assert_close("sum", summed, exact_sum, atol=1e-6)
    assert_as_good("normed", normed, naive_normed, exact)
