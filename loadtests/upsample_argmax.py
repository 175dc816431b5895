"""``kernels.upsample_argmax`` beside ``interpolate`` + ``argmax``: the map, the time, the memory.

``python -m vimserve.loadtests.upsample_argmax`` prints a table. The ways take turns, each in a
process of its own, so that none finds memory that another left behind. The scores are laid out
channels-last, as the head leaves them, and for the two steps also in the layout that suits them.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vimserve.kernels.upsample_argmax import naive, upsample_argmax
from vimserve.model.device_memory import PeakMeter, release_unused

TURNS = 3


class Measured(NamedTuple):
    """One turn of one way.

    Attributes:
        ms: milliseconds of every pass.
        peak_bytes: memory above the scores.
        classes: the map.
    """

    ms: list[float]
    peak_bytes: int
    classes: np.ndarray


def fused(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of every pixel, as the server computes it."""
    return upsample_argmax(scores, size)[0]


def two_steps(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of every pixel, as the published evaluation computes it."""
    return naive.upsample_argmax(scores, size, probability=False)[0]


WAYS: dict[str, tuple[Callable[[Tensor, tuple[int, int]], Tensor], torch.memory_format]] = {
    "upsample_argmax": (fused, torch.channels_last),
    "interpolate + argmax": (two_steps, torch.contiguous_format),
    "the same, channels-last": (two_steps, torch.channels_last),
}


def make_scores(classes: int, side: int, layout: torch.memory_format) -> Tensor:
    """Make smooth random scores ``[classes, side, side]``."""
    torch.manual_seed(0)
    coarse = torch.randn(1, classes, max(side // 8, 1), max(side // 8, 1))
    scores = F.interpolate(coarse, (side, side), mode="bicubic")
    return scores.contiguous(memory_format=layout)[0]


def measure(way: str, classes: int, side: int, threads: int, device: str, runs: int) -> Measured:
    """Measure the time and memory of one way, from ``side / 4`` to ``side`` pixels."""
    torch.set_num_threads(threads)
    where = torch.device(device)
    call, layout = WAYS[way]
    scores, size = make_scores(classes, side // 4, layout).to(where), (side, side)
    call(scores[:, :4, :4], (16, 16))  # so that the kernel is compiled
    release_unused(where)
    with PeakMeter(where) as meter:
        found = call(scores, size)
    ms = []
    for _ in range(runs):
        start = time.perf_counter()
        call(scores, size)
        if device != "cpu":
            torch.cuda.synchronize(where)
        ms.append(1e3 * (time.perf_counter() - start))
    return Measured(ms, meter.bytes, found.cpu().numpy())


def main() -> None:
    """Read the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--side", type=int, default=1248, help="of the image in pixels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3, help="timed passes in each turn")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    seen: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way, measured in seen.items():
            with context.Pool(1) as pool:
                job = (way, given.classes, given.side, given.threads, given.device, given.runs)
                measured.append(pool.apply(measure, job))
    for way, turns in seen.items():
        times = [ms for turn in turns for ms in turn.ms]
        print(
            f"{way:<24} median {statistics.median(times):9.1f} ms  fastest {min(times):9.1f} ms  "
            f"peak {max(turn.peak_bytes for turn in turns) / 1e6:9.1f} MB"
        )
    ours, theirs, _ = (turns[0].classes for turns in seen.values())
    print(f"pixels with another class: {int((ours != theirs).sum())} of {ours.size}")


if __name__ == "__main__":
    main()
