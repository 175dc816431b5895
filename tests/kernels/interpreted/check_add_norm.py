import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.cases import TURNS, make_turn
from tests.kernels.interpreted.operands import assert_as_good
from vimserve.kernels.add_norm import naive, triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize(("T", "D"), [(1, 16), (17, 48), (100, 192)])
def test_as_good_as_the_reference(
    T: int, D: int, turns: str, first: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(T)
    hidden, weight = torch.randn(T, D).to(dtype), torch.randn(D).to(dtype)
    residual = None if first else torch.randn(T, D)
    turn = make_turn(T, D, turns)

    def given() -> torch.Tensor | None:
        return None if residual is None else residual.clone()

    naive_normed, _ = naive.add_norm(hidden, given(), weight, turn=turn)
    exact, exact_sum = naive.add_norm(hidden.float(), given(), weight.float(), turn=turn)
    stream = given()
    normed, summed = triton.add_norm(hidden, stream, weight, turn=turn)

    assert stream is None or summed is stream
    assert summed.dtype == torch.float32
    assert_close("sum", summed, exact_sum, atol=2e-6)
    assert_as_good("normed", normed, naive_normed, exact)
