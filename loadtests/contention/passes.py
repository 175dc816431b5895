"""Forward passes in a process of their own, in which ``load`` must be called first."""

import os
import time
from pathlib import Path

import torch

from vimserve.model.batch import PackedBatch
from vimserve.model.catalog import load_model
from vimserve.model.served import ServedModel
from vimserve.model.threads import threads_in_use, use_threads

_loaded: list[tuple[ServedModel, PackedBatch]] = []


def load(name: str, pixels: int, group: Path | None) -> None:
    """Load a model with random weights, and a square image.

    Args:
        name: of the model in the catalog.
        pixels: side of the image.
        group: control group to enter first; None to stay.
    """
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    torch.manual_seed(0)
    model = load_model(name, "random", torch.device("cpu"), torch.float32).eval()
    model.warm_up()
    image = torch.randint(256, (3, pixels, pixels), dtype=torch.uint8)
    batch = PackedBatch.from_images([image], model.config.patch_size, model.config.stride)
    _loaded[:] = [(model, batch)]


def loop(threads: int | None, seconds: float) -> tuple[list[float], list[int]]:
    """Run passes for at least so many seconds.

    Args:
        threads: a fixed number; None to let it adapt.
        seconds: least time.

    Returns:
        What each pass took, in seconds, and its threads.
    """
    ((model, batch),) = _loaded
    use_threads(threads)
    wanted = [None] * batch.num_images
    took: list[float] = []
    used: list[int] = []
    while sum(took) < seconds:
        start = time.perf_counter()
        model.answer(batch, wanted)
        took.append(time.perf_counter() - start)
        used.append(threads_in_use())
    return took, used
