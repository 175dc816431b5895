"""The one way in which tests compare tensors."""

import torch
from torch import Tensor


def assert_close(name: str, actual: Tensor, expected: Tensor, *, atol: float) -> None:
    """Fail with the largest error and its ratio to the bound; NaN never passes."""
    assert actual.shape == expected.shape, f"{name}: {actual.shape} instead of {expected.shape}"
    error = (actual.double() - expected.double()).abs().max().item()
    ratio = error / atol
    print(f"{name}: error {error:.2e}, {ratio:.2f} of the bound {atol:.0e}")
    assert ratio <= 1, f"{name}: error {error:.3e} is {ratio:.2f} times the bound {atol:.0e}"
    assert torch.isfinite(actual).all(), f"{name}: not finite"
