"""What an exception of a forward pass says about the device: that it is full, lost, or neither.

CUDA's runtime and its driver share codes and texts. PyTorch gives its ``AcceleratorError`` the code
as ``error_code``; what comes out of Triton or of an unwrapped binding has only the text.
"""

import re

import torch

OUT_OF_MEMORY = (2, "out of memory")

# The errors after which NVIDIA's cuda.h says that the process "must be terminated and relaunched"
# (after an assertion: that its context cannot be used), by code, with cudaGetErrorString's texts.
LOST = {
    226: "Invalid access of peer GPU memory over nvlink or a hardware error",
    700: "an illegal memory access was encountered",
    702: "the launch timed out and was terminated",
    710: "device-side assert triggered",
    714: "hardware stack error",
    715: "an illegal instruction was encountered",
    716: "misaligned address",
    717: "operation not supported on global/shared address space",
    718: "invalid program counter",
    719: "unspecified launch failure",
    721: "tensor memory not completely freed",
    810: "the MPS client has been terminated by the server",
    911: "an async error has occured in external entity outside of CUDA",
}
_TEXTS = dict([OUT_OF_MEMORY]) | LOST

# How PyTorch and Triton begin what CUDA or a library on top of it has reported.
_REPORT = re.compile(
    r"(?:CUDA error|CUDA driver error|cuDNN error|cuDNN Frontend error|Triton Error \[CUDA\]): (.+)"
)
_NO_MEMORY = re.compile(r"out of memory$|(?:CUBLAS|CUDNN)_STATUS_\w*ALLOC(?:ATION)?_FAILED\b")

_CROWDED = re.compile(
    # PyTorch's CPU allocator and oneDNN.
    r"can't allocate memory|not enough memory|could not create a memory"
    # PyTorch's CUDA allocator asks NVML for its report of being full, and fails if NVML does.
    r"|NVML_SUCCESS == .*CUDACachingAllocator\.cpp"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a forward pass ran out of memory, so that a smaller batch may succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    report = _report(error)
    if report is not None:
        return _NO_MEMORY.match(report) is not None
    return isinstance(error, RuntimeError) and _CROWDED.search(str(error)) is not None


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory was too small for this error or for one that it followed.

    An error while a capture is being ended may hide the one that broke it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Exception) and is_out_of_memory(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_broken(error: Exception, device: torch.device) -> bool:
    """Whether this process can no longer use the device, as after an illegal memory access.

    Some reports leave that open: cuBLAS fails to execute on a lost device, and on one that is full.
    Then the device is asked, since one that is lost fails at every call; this waits until it idles.
    """
    report = _report(error)
    if report is None or is_out_of_memory(error):
        return False
    return report in LOST.values() or not _answers(device)


def _report(error: Exception) -> str | None:
    """The first line of what CUDA reported; None if the error is not CUDA's."""
    if not isinstance(error, RuntimeError):
        return None
    coded = isinstance(error, torch.AcceleratorError)
    if coded and (text := _TEXTS.get(getattr(error, "error_code", 0))):
        return text
    if match := _REPORT.match(str(error)):
        return match[1]
    return str(error) if coded else None


def _answers(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True
