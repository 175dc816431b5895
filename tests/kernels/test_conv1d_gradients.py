import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kernels.gradients import assert_same_gradients
from vimserve.kernels.conv1d.gradients import causal_conv


def naive_conv(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    x = x.flip(1) if reverse else x
    y = F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), weight, bias, groups=x.shape[2]).transpose(1, 2)
    return y.flip(1) if reverse else y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 21])
def test_outputs_and_gradients(tokens: int, reverse: bool) -> None:
    torch.manual_seed(tokens)
    inputs = {
        "x": torch.randn(3, tokens, 48),
        "weight": torch.randn(48, 1, 4),
        "bias": torch.randn(48),
    }
    assert_same_gradients(causal_conv, naive_conv, inputs, reverse)


def test_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        causal_conv(torch.zeros(1, 2, 40), torch.zeros(40, 1, 4), torch.zeros(40))
