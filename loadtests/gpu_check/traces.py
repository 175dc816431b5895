"""Which kernels a forward pass spends its time in, by PyTorch's profiler."""

from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from vimserve.loadtests.gpu_check.models import DTYPE, build, square_batch, uses
from vimserve.loadtests.gpu_check.sections import Clock, Job, Row

CASES = (
    ("vim-tiny", 1248, 1), ("deit-tiny", 1248, 1), ("vim-tiny", 224, 64), ("deit-tiny", 224, 64),
    ("deit-tiny-eager", 1248, 1), ("vim-tiny", 1248, 16),
)  # fmt: skip
KERNELS = 14  # of a pass, by their share of its time
NAME = 160  # characters of a kernel's name
ACTIVITIES = (ProfilerActivity.CUDA,)
ATTENTION = ("flash", "fmha", "attention", "cudnn_generated")


def jobs() -> Iterator[Job]:
    """A job for each model and shape."""
    for name, size, images in CASES:
        yield Job(f"{name} {size} x {images}", _rows(name, size, images), uses(name))


def _rows(name: str, size: int, images: int) -> Callable[[Clock], Iterator[Row]]:
    def rows(clock: Clock) -> Iterator[Row]:  # noqa: ARG001
        model = build(name)
        batch = square_batch(model.config, size, images)
        model(batch)
        torch.cuda.synchronize()
        with profile(activities=ACTIVITIES) as trace:
            model(batch)
            torch.cuda.synchronize()
        kernels = sorted(
            (
                {"kernel": event.key[:NAME], "calls": event.count,
                 "us": float(event.self_device_time_total)}
                for event in trace.key_averages()
                if event.self_device_time_total > 0
            ),
            key=lambda kernel: -kernel["us"],
        )  # fmt: skip
        attention = [k["kernel"] for k in kernels if any(a in k["kernel"] for a in ATTENTION)]
        yield {
            "model": name, "size": size, "images": images, "dtype": str(DTYPE),
            "device_us": sum(kernel["us"] for kernel in kernels),
            "launches": sum(kernel["calls"] for kernel in kernels),
            "attention": ", ".join(attention), "kernels": kernels[:KERNELS],
        }  # fmt: skip

    return rows
