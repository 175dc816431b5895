"""Outputs and gradients of the training kernels against plain autograd in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.closeness import assert_close
from vimserve.kernels.conv1d.gradients import causal_conv
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


def naive_conv(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    x = x.flip(1) if reverse else x
    y = F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), weight, bias, groups=x.shape[2]).transpose(1, 2)
    return y.flip(1) if reverse else y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 37])
def test_scan(tokens: int, reverse: bool) -> None:
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
    _compare(selective_scan, naive_scan, inputs, reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 21])
def test_conv(tokens: int, reverse: bool) -> None:
    torch.manual_seed(tokens)
    inputs = {
        "x": torch.randn(3, tokens, 48),
        "weight": torch.randn(48, 1, 4),
        "bias": torch.randn(48),
    }
    _compare(causal_conv, naive_conv, inputs, reverse)


def test_widths_that_do_not_fit_are_refused() -> None:
    x = torch.zeros(1, 2, 40)
    with pytest.raises(ValueError, match="multiple of 64"):
        selective_scan(x, x, x[0], x[..., :4], x[..., :4], x[0, 0])
    with pytest.raises(ValueError, match="multiple of 16"):
        causal_conv(x, torch.zeros(40, 1, 4), torch.zeros(40))


def _compare(fast, naive, inputs: dict[str, Tensor], reverse: bool) -> None:  # type: ignore[no-untyped-def]
    singles = [tensor.clone().requires_grad_() for tensor in inputs.values()]
    doubles = [tensor.double().requires_grad_() for tensor in inputs.values()]
    actual, expected = fast(*singles, reverse), naive(*doubles, reverse)
    assert_close("output", actual.detach(), expected.detach(), atol=3e-5)
    weights = torch.randn_like(actual)
    gradients = torch.autograd.grad(actual, singles, weights)
    references = torch.autograd.grad(expected, doubles, weights.double())
    for name, gradient, reference in zip(inputs, gradients, references, strict=True):
        bound = 1e-5 * max(1.0, reference.abs().max().item())
        assert_close(f"gradient of {name}", gradient, reference, atol=bound)
