"""How the training kernels are tested: against plain autograd in double precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.closeness import assert_close


def assert_same_gradients(
    fast: Callable[..., Tensor],
    naive: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    reverse: bool,
) -> None:
    """Outputs, and the gradients of every input for random ones of the output, are the same."""
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
