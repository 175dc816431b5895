"""Which implementation of an operation runs: by the tensor's device, or as the user forces it."""

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import torch

IMPLEMENTATIONS = ("naive", "cpu")
VARIABLE = "VIMSERVE_KERNELS"


@functools.cache
def implementation(operation: str, device_type: str) -> Callable[..., Any]:
    """The function ``operation`` for tensors of a device type.

    ``VIMSERVE_KERNELS=naive`` forces the plain PyTorch reference, which runs anywhere.

    Raises:
        ValueError: for a device without kernels or an unknown value of the variable.
    """
    name = os.environ.get(VARIABLE) or device_type
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"no kernels for {name!r}: choose one of {', '.join(IMPLEMENTATIONS)} with {VARIABLE}"
        )
    module = importlib.import_module(f"kernels.{operation}.{name}")
    return getattr(module, operation)


def require_float32(**tensors: torch.Tensor | None) -> None:
    """Refuse what the CPU kernels do not compute.

    Raises:
        ValueError: naming the tensor and its dtype.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(
                f"CPU kernels compute in float32, but {name} is {tensor.dtype}: "
                "load the model with dtype=torch.float32"
            )
