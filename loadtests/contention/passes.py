"""Forward passes in a process of their own, in which ``load`` must be called first."""

import os
from pathlib import Path

from vimserve.model import bench
from vimserve.model.threads import threads_in_use, use_threads

_loaded: list[bench.Forward] = []


def load(name: str, pixels: int, group: Path | None) -> None:
    """Load a model with random weights, and a square image.

    Args:
        name: of the model in the catalog.
        pixels: side of the image.
        group: control group to enter first; None to stay.
    """
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    _loaded[:] = [bench.Forward(bench.load(name, "random", threads=None), pixels, batch=1)]


def loop(threads: int | None, seconds: float) -> tuple[list[float], list[int]]:
    """Run at least one pass, and passes for at least so many seconds.

    Args:
        threads: a fixed number; None to let it adapt.
        seconds: least time.

    Returns:
        What each pass took, in seconds, and its threads.
    """
    (forward,) = _loaded
    use_threads(threads)
    took: list[float] = []
    used: list[int] = []
    while not took or sum(took) < seconds:
        took.append(forward.seconds())
        used.append(threads_in_use())
    return took, used
