import pytest
import torch

from tests.closeness import assert_close
from vimserve.model.linear import Linear, PreparedLinear, PreparedLinears


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_products_are_those_of_each(dtype: torch.dtype) -> None:
    """A CPU runs them one by one in float32; in other dtypes they are one product, as on a GPU."""
    weights = [torch.randn(44, 64, dtype=dtype) for _ in range(2)]
    x = torch.randn(2, 9, 64, dtype=dtype)
    assert_close("products", PreparedLinears(weights)(x), torch.stack([
        x_k @ weight.T for x_k, weight in zip(x, weights, strict=True)
    ]), atol=1e-4)  # fmt: skip


def test_a_repeated_weight_adds_up_inputs_side_by_side() -> None:
    weight = torch.randn(5, 64, dtype=torch.float64)
    halves = torch.randn(2, 9, 64, dtype=torch.float64)
    side_by_side = torch.cat([halves[0], halves[1]], dim=1)
    out = PreparedLinear(weight.repeat(1, 2))(side_by_side)
    assert_close("sum", out, halves.sum(0) @ weight.T, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gelu_is_the_exact_one(dtype: torch.dtype) -> None:
    """The usual approximation by tanh would be wrong by 5e-4."""
    linear = Linear(64, 96, "gelu").to(dtype)
    x = torch.randn(50, 64, dtype=dtype) * 3
    with torch.inference_mode():
        out = linear(x)
    y = x.double() @ linear.weight.double().T + linear.bias.double()
    exact = y * torch.special.ndtr(y)
    assert_close("gelu", out, exact.detach(), atol=1e-5)
