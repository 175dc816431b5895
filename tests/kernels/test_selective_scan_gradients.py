import pytest
import torch
from torch import Tensor

from tests.kernels.gradients import assert_same_gradients
from vimserve.kernels.selective_scan.gradients import selective_scan


def naive_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool
) -> Tensor:
    if reverse:
        x, dt, B, C = (tensor.flip(1) for tensor in (x, dt, B, C))
    h = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt * x)[:, t, :, None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + D * x[:, t])
    y = torch.stack(outputs, dim=1)
    return y.flip(1) if reverse else y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 37])
def test_outputs_and_gradients(tokens: int, reverse: bool) -> None:
    torch.manual_seed(tokens)
    N, E, S = 3, 128, 5
    inputs = {
        "x": torch.randn(N, tokens, E),
        "dt": torch.rand(N, tokens, E),
        "A": -8 * torch.rand(E, S),
        "B": torch.randn(N, tokens, S),
        "C": torch.randn(N, tokens, S),
        "D": torch.randn(E),
    }
    assert_same_gradients(selective_scan, naive_scan, inputs, reverse)


def test_widths_that_do_not_fit_are_refused() -> None:
    x = torch.zeros(1, 2, 40)
    with pytest.raises(ValueError, match="multiple of 64"):
        selective_scan(x, x, x[0], x[..., :4], x[..., :4], x[0, 0])
