import pytest
import torch

from tests.closeness import assert_close
from vimserve.kernels.add_norm import cpu, naive


@pytest.mark.parametrize(("T", "D"), [(1, 16), (63, 192), (65, 48), (300, 384)])
@pytest.mark.parametrize("first", [True, False])
def test_cpu_matches_reference(T: int, D: int, first: bool) -> None:
    torch.manual_seed(T)
    hidden, weight = torch.randn(T, D), torch.randn(D)
    residual = None if first else torch.randn(T, D)

    given = None if residual is None else residual.clone()
    normed, total = cpu.add_norm(hidden, given, weight)

    expected_normed, expected_total = naive.add_norm(hidden, residual, weight)
    assert_close("normed", normed, expected_normed, atol=2e-6)
    assert_close("total", total, expected_total, atol=1e-30)


def test_the_residual_is_updated_in_place() -> None:
    hidden, residual = torch.randn(5, 16), torch.randn(5, 16)
    before = residual.clone()

    _, total = cpu.add_norm(hidden, residual, torch.ones(16))

    assert total.data_ptr() == residual.data_ptr()
    assert torch.equal(residual, before + hidden)
