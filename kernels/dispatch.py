"""Chooses the implementation of an operation, by the tensor's device or ``VIMSERVE_KERNELS``."""

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

    ``VIMSERVE_KERNELS=naive`` forces the plain PyTorch reference, which runs on any device,
    including GPUs that are too old for the Triton kernels. ``triton`` on a CPU needs
    ``TRITON_INTERPRET=1``.

    Raises:
        ValueError: if the device has no kernels, or the variable has an unknown value.
    """
    name = chosen(device_type)
    if name == "triton":
        importlib.import_module("vimserve.kernels.triton_cache").ensure_folder()
    module = importlib.import_module(f"vimserve.kernels.{operation}.{name}")
    return getattr(module, operation)


def chosen(device_type: str) -> str:
    """One of ``IMPLEMENTATIONS``, for tensors of a device type.

    Raises:
        ValueError: as ``implementation``.
    """
    name = os.environ.get(VARIABLE) or (_for_this_gpu() if device_type == "cuda" else device_type)
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"no kernels for {name!r}: choose one of {', '.join(IMPLEMENTATIONS)} with {VARIABLE}"
        )
    return name


@functools.cache
def _for_this_gpu() -> str:
    capability = torch.cuda.get_device_capability()
    if capability >= OLDEST_GPU:
        return "triton"
    warnings.warn(
        f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}, "
        f"but the kernels need {OLDEST_GPU[0]}.{OLDEST_GPU[1]}: running plain PyTorch, slowly",
        stacklevel=2,
    )
    return "naive"


def activation_dtype(device_type: str, dtype: torch.dtype) -> torch.dtype:
    """What the kernels of a device read and write in a model whose weights are of ``dtype``.

    It is the same, but for CPU kernels, which compute in float32: on CPUs only the matrix products
    are in the dtype of the weights. ``VIMSERVE_KERNELS=naive`` takes any dtype.
    """
    return torch.float32 if (os.environ.get(VARIABLE) or device_type) == "cpu" else dtype


def require_float32(**tensors: torch.Tensor | None) -> None:
    """Refuse other dtypes, in which the CPU kernels do not compute.

    Raises:
        ValueError: if a tensor has another dtype; the message names both.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(
                f"CPU kernels compute in float32, but {name} is {tensor.dtype}: "
                "load the model with dtype=torch.float32"
            )
