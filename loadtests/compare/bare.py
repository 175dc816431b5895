"""The bare model, for a process of its own, in which ``load`` must be called first.

What a detector's heads have to do depends on what the stages before them find, which with random
weights is nothing that models could be compared by. So on any device they take an image's full
number of proposals and make the full number of masks, as they do on a GPU anyway.
"""

import signal
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vimserve.loadtests.compare.results import Case, FirstPass, Turn
from vimserve.model import bench
from vimserve.model.device_memory import release_unused
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.served import ServedModel


@dataclass
class _Loaded:
    name: str
    module: ServedModel
    device: str
    forwards: dict[Case, bench.Forward]

    def forward(self, case: Case) -> bench.Forward:
        """The passes of this shape, always over the same images."""
        if case not in self.forwards:
            self.forwards[case] = bench.Forward(
                self.module, case.size, case.batch, self.device, backbone=case.backbone
            )
        return self.forwards[case]


_loaded: list[_Loaded] = []


def load(name: str, weights: str | None, threads: int, device: str) -> None:
    """Load and warm up the model that this process measures from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    module = bench.load(name, weights, threads, device)
    if isinstance(module, CascadeDetector):
        module.fixed_shapes = True
    _loaded[:] = [_Loaded(name, module, device, {})]


def first_pass(case: Case) -> FirstPass:
    """The memory of the process's first pass, which must be its first."""
    (loaded,) = _loaded
    forward = loaded.forward(case)
    with _counting(loaded.module) as taken:
        peak_bytes = forward.peak_bytes()
    boxes, masks = (rows // case.batch for rows in taken)
    return FirstPass(loaded.name, case, forward.tokens, peak_bytes, boxes, masks)


def turn(case: Case, seconds: float) -> Turn:
    """Passes for at least so many seconds, of which the median counts."""
    (loaded,) = _loaded
    forward = loaded.forward(case)
    times = [forward.seconds()]
    while sum(times) < seconds:
        times.append(forward.seconds())
    if loaded.device != "cpu":
        release_unused(torch.device(loaded.device))  # others need room on the same device
    image_ms = 1e3 * statistics.median(times) / case.batch
    return Turn(loaded.name, image_ms, len(times), sum(times))


@contextmanager
def _counting(module: ServedModel) -> Iterator[list[int]]:
    """How many boxes a detector's first box head and its mask head have taken since."""
    taken = [0, 0]

    def count(head: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken[head] += len(inputs[0])

    with ExitStack() as stack:
        if isinstance(module, CascadeDetector):
            heads = module.roi_heads.box_head[0], module.roi_heads.mask_head
            for i, head in enumerate(heads):
                if head is not None:
                    stack.enter_context(head.register_forward_pre_hook(partial(count, i)))
        yield taken
