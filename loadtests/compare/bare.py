"""The bare model, for a process of its own, in which ``load`` must be called first."""

import signal
import statistics
from dataclasses import dataclass

import torch

from vimserve.loadtests.compare.results import FirstPass, Turn
from vimserve.model import bench
from vimserve.model.device_memory import release_unused
from vimserve.model.served import ServedModel


@dataclass
class _Loaded:
    name: str
    module: ServedModel
    device: str
    forwards: dict[tuple[int, int], bench.Forward]

    def forward(self, size: int, batch: int) -> bench.Forward:
        """The passes of this shape, always over the same images."""
        if (size, batch) not in self.forwards:
            self.forwards[size, batch] = bench.Forward(self.module, size, batch, self.device)
        return self.forwards[size, batch]


_loaded: list[_Loaded] = []


def load(name: str, weights: str | None, threads: int, device: str) -> None:
    """Load and warm up the model that this process measures from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    _loaded[:] = [_Loaded(name, bench.load(name, weights, threads, device), device, {})]


def first_pass(size: int, batch: int) -> FirstPass:
    """The memory of the process's first pass, which must be its first."""
    (loaded,) = _loaded
    forward = loaded.forward(size, batch)
    return FirstPass(loaded.name, size, batch, forward.tokens, forward.peak_bytes())


def turn(size: int, batch: int, seconds: float) -> Turn:
    """Passes for at least so many seconds, of which the median counts."""
    (loaded,) = _loaded
    forward = loaded.forward(size, batch)
    times = [forward.seconds()]
    while sum(times) < seconds:
        times.append(forward.seconds())
    if loaded.device != "cpu":
        release_unused(torch.device(loaded.device))  # others need room on the same device
    image_ms = 1e3 * statistics.median(times) / batch
    return Turn(loaded.name, image_ms, len(times), sum(times))
