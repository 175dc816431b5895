import pytest
import torch

from tests.closeness import assert_close
from tests.kernels.cases import RAGGED, boundaries
from vimserve.kernels.conv1d import cpu, naive


@pytest.mark.parametrize("reverse", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("E", [16, 80])
def test_cpu_matches_reference(lengths: list[int], reverse: tuple[bool, ...], E: int) -> None:
    torch.manual_seed(E)
    x = torch.randn(sum(lengths), 2 * E)[:, :E]
    weight, bias = torch.randn(len(reverse), E, 4), torch.randn(len(reverse), E)
    arguments = (x, weight, bias, boundaries(lengths), reverse)

    assert_close("out", cpu.conv1d(*arguments), naive.conv1d(*arguments), atol=5e-6)


def test_saturated_gates_stay_finite() -> None:
    x = torch.linspace(-1000, 1000, 64)[:, None].expand(64, 16).contiguous()
    weight, bias = torch.ones(1, 16, 4), torch.zeros(1, 16)
    arguments = (x, weight, bias, boundaries([64]), (False,))

    assert_close("out", cpu.conv1d(*arguments), naive.conv1d(*arguments), atol=1e-3)
