"""What failures of a GPU say, in the words of PyTorch 2.11 to 2.13 and of Triton 3.6 and 3.7.

Where the words are from:

- PyTorch: c10/cuda/CUDAException.cpp and CUDAMiscFunctions.cpp ("CUDA error", with the hint at
  asynchronous errors after every code or, newer, only after those of a kernel),
  ATen/cuda/Exceptions.h (cuBLAS, cuDNN, the driver), torch/csrc/Exceptions.h and .cpp (the
  attribute ``error_code``);
- Triton: third_party/nvidia/backend/driver.c, in 3.6.0 driver.py as well, and runtime/errors.py;
- CUDA: what cudaGetErrorString of libcudart 12.8.90 and 13.0.96 returns, the same texts in both.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from vimserve.model.device_errors import LOST, is_broken, is_out_of_memory, ran_out_of_memory

GPU, CPU = torch.device("cuda"), torch.device("cpu")

HELP = (
    "\nSearch for `{name}' in https://docs.nvidia.com/cuda/cuda-runtime-api/"
    "group__CUDART__TYPES.html for more information."
)
LATER = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the"
    " stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
)
LOG_FILE = "\nFor more detailed error information, run with CUDA_LOG_FILE=stderr"
ASSERTIONS = "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
OUTSIDE_PYTHON = (
    "Exception raised from c10_cuda_check_implementation at"
    " /pytorch/c10/cuda/CUDAException.cpp:44 (most recent call first):\n"
)
NAMES = {
    1: "cudaErrorInvalidValue",
    2: "cudaErrorMemoryAllocation",
    9: "cudaErrorInvalidConfiguration",
    214: "cudaErrorECCUncorrectable",
    700: "cudaErrorIllegalAddress",
    701: "cudaErrorLaunchOutOfResources",
    710: "cudaErrorAssert",
    719: "cudaErrorLaunchFailure",
    999: "cudaErrorUnknown",
}
TEXTS = {
    1: "invalid argument",
    2: "out of memory",
    9: "invalid configuration argument",
    214: "uncorrectable ECC error encountered",
    700: "an illegal memory access was encountered",
    701: "too many resources requested for launch",
    710: "device-side assert triggered",
    719: "unspecified launch failure",
    999: "unknown error",
}


def said(code, suffix=LATER):
    """PyTorch's message for that code."""
    return f"CUDA error: {TEXTS[code]}{HELP.format(name=NAMES[code])}{suffix}{ASSERTIONS}"


def coded(code, message=None):
    """The exception as torch/csrc/Exceptions.cpp makes it: the code is an attribute."""
    error = torch.AcceleratorError(said(code) if message is None else message)
    error.error_code = code  # type: ignore[attr-defined]
    return error


def bare(message):
    return torch.AcceleratorError(message)


def triton(text):
    return RuntimeError(f"Triton Error [CUDA]: {text}")


@pytest.fixture
def alive(monkeypatch):
    """A device that answers; the list of those that were asked."""
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    return asked


@pytest.fixture
def dead(monkeypatch):
    """A device that fails at every call, as it does after an illegal access."""

    def fail(device):
        raise coded(700)

    monkeypatch.setattr(torch.cuda, "synchronize", fail)


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."),
    coded(2),
    coded(2, "CUDA error: out of memory" + LOG_FILE + ASSERTIONS),
    coded(2, ""),
    bare(said(2)),
    bare(said(2, LOG_FILE)),
    RuntimeError(said(2) + OUTSIDE_PYTHON),  # from a binding that is not wrapped, as cudart's are
    RuntimeError("CUDA driver error: out of memory"),
    triton("out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),  # cuDNN 8
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),  # cuDNN 9
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError(
        "NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at"
        ' "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1377, please report a bug to PyTorch. '
    ),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    RuntimeError("could not create a memory object"),
]

# Both NVIDIA's list and what is said without a code.
GONE = [
    *(coded(code, f"CUDA error: {text}" + LATER) for code, text in LOST.items()),
    *(triton(text) for text in LOST.values()),
    coded(700, ""),
    bare(said(700)),
    bare(said(719)),
    RuntimeError(said(710) + OUTSIDE_PYTHON),
    RuntimeError("CUDA driver error: an illegal memory access was encountered"),
]

# A library reports these on a lost device and on one that works, and PyTorch codes may be new.
OPEN = [
    coded(1),
    coded(9),
    coded(214),
    coded(701),
    coded(999),
    coded(4242, "CUDA error: unrecognized error code"),
    bare("no words of CUDA's"),
    triton("invalid argument"),
    triton("too many resources requested for launch"),
    RuntimeError(
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa)`"
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasLtMatmul( handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR"),  # cuDNN 8
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"),  # cuDNN 9
    RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built."),
]


def shown(error):
    return f"{type(error).__name__} {getattr(error, 'error_code', '')} {str(error)[:60]!r}"


@pytest.mark.parametrize("error", FULL, ids=shown)
def test_memory_that_is_short_breaks_nothing(dead, error):
    assert is_out_of_memory(error)
    assert not is_broken(error, GPU)


@pytest.mark.parametrize("error", GONE, ids=shown)
def test_a_lost_device_is_known_by_code_or_words(alive, error):
    assert is_broken(error, GPU)
    assert not is_out_of_memory(error)
    assert alive == []


@pytest.mark.parametrize("error", OPEN, ids=shown)
def test_the_device_is_asked_whether_it_is_lost(monkeypatch, alive, error):
    assert not is_out_of_memory(error)
    assert not is_broken(error, GPU)
    assert alive == [GPU]
    assert not is_broken(error, CPU)

    def fail(device):
        raise coded(700)

    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert is_broken(error, GPU)


def out_of_resources():
    """What Triton raises for a kernel that does not fit, in 3.6 and 3.7."""
    errors = pytest.importorskip("triton.runtime.errors")
    return errors.OutOfResources(262144, 232448, "shared memory")


def test_a_kernel_that_does_not_fit_is_neither(dead):
    error = out_of_resources()
    assert "out of resource: shared memory" in str(error)
    assert not is_out_of_memory(error)
    assert not is_broken(error, GPU)


@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError("out of memory"), KeyError(2)])
def test_what_is_not_the_device_s_is_neither(dead, error):
    assert not is_out_of_memory(error)
    assert not is_broken(error, GPU)


def test_a_code_belongs_to_pytorch_s_error_alone(dead):
    error = RuntimeError("boom")
    error.error_code = 700  # type: ignore[attr-defined]
    assert not is_broken(error, GPU)


def test_the_lost_are_those_of_nvidia_s_header():
    triton = find_spec("triton")
    if triton is None or triton.origin is None:
        pytest.skip("Triton's copy of cuda.h is not installed")
    header = Path(triton.origin).parent / "backends" / "nvidia" / "include" / "cuda.h"
    comment = r"/\*\*((?:(?!\*/).)*)\*/\s+CUDA_ERROR_\w+\s*=\s*(\d+)"
    documented = re.findall(comment, header.read_text(errors="replace"), re.DOTALL)
    assert len(documented) > 50
    words = {int(code): " ".join(text.replace("*", " ").split()) for text, code in documented}
    ends = ("process must be terminated and relaunched", "context cannot be used anymore")
    assert {code for code, text in words.items() if any(end in text for end in ends)} == set(LOST)


def test_memory_that_ran_out_may_hide_behind_a_later_error() -> None:
    hidden = RuntimeError("operation failed due to a previous error during capture")
    hidden.__context__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert ran_out_of_memory(hidden)
    assert not is_out_of_memory(hidden)
    hidden.__context__ = RuntimeError("Triton Error [CUDA]: misaligned address")
    assert not ran_out_of_memory(hidden)
