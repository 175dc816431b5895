"""Which implementation of an operation runs: by the tensor's device, or as the user forces it."""

import functools
import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch

IMPLEMENTATIONS = ("naive", "cpu", "triton")
OLDEST_GPU = (7, 5)
VARIABLE = "VIMSERVE_KERNELS"


@functools.cache
def implementation(operation: str, device_type: str) -> Callable[..., Any]:
    """The function ``operation`` for tensors of a device type.

    ``VIMSERVE_KERNELS=naive`` forces the plain PyTorch reference, which runs anywhere, also on
    GPUs that are too old for the Triton kernels; ``triton`` on a CPU needs ``TRITON_INTERPRET=1``.

    Raises:
        ValueError: for a device without kernels or an unknown value of the variable.
    """
    name = os.environ.get(VARIABLE) or (_for_this_gpu() if device_type == "cuda" else device_type)
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"no kernels for {name!r}: choose one of {', '.join(IMPLEMENTATIONS)} with {VARIABLE}"
        )
    module = importlib.import_module(f"vimserve.kernels.{operation}.{name}")
    return getattr(module, operation)


@functools.cache
def _for_this_gpu() -> str:
    capability = torch.cuda.get_device_capability()
    if capability >= OLDEST_GPU:
        return "triton"
    warnings.warn(
        f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}, "
        f"the kernels need {OLDEST_GPU[0]}.{OLDEST_GPU[1]}: running the plain PyTorch path, slowly",
        stacklevel=2,
    )
    return "naive"


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
