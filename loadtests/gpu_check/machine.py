"""The machine that the figures were measured on."""

import platform
import shutil
import subprocess
from collections.abc import Iterator

import torch

from vimserve.loadtests.common.checkout import commit
from vimserve.loadtests.gpu_check.exponentials import exponentials_per_s
from vimserve.loadtests.gpu_check.sections import Job, Row
from vimserve.loadtests.gpu_check.timing import copy_bytes_per_s, median_ms

ASKED = ("driver_version", "power.limit", "clocks.sm", "clocks.max.sm", "clocks.mem",
         "clocks.max.mem", "temperature.gpu", "power.draw", "pcie.link.gen.current")  # fmt: skip
PRODUCT_SIDE = 8192


def jobs() -> Iterator[Job]:
    """Describe the device, then measure what it can do at most."""
    yield Job("device", lambda clock: [describe()])  # noqa: ARG005
    yield Job("rates", lambda clock: [rates()])  # noqa: ARG005
    yield Job("after load", lambda clock: [driver_says()])  # noqa: ARG005


def describe() -> Row:
    """The device and the versions of what runs on it."""
    import triton

    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device on this machine")
    properties = torch.cuda.get_device_properties("cuda")
    return {
        "device": properties.name,
        "capability": f"sm_{properties.major}{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": triton.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        **driver_says(),
    }


def driver_says() -> Row:
    """What ``nvidia-smi`` says of the first device, by its names; nothing where it is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"nvidia_smi": str(error)}
    return dict(zip(ASKED, (word.strip() for word in done.stdout.split(",")), strict=False))


def rates() -> Row:
    """Bytes of a copy, exponentials and operations of a bfloat16 product, each a second."""
    square = torch.randn(PRODUCT_SIDE, PRODUCT_SIDE, device="cuda", dtype=torch.bfloat16)
    other = torch.randn_like(square)
    return {
        "copy_bytes_per_s": copy_bytes_per_s(),
        "special_per_s": exponentials_per_s(),
        "product_flops": 2e3 * PRODUCT_SIDE**3 / median_ms([lambda: square @ other]),
    }
