"""The operators of a detector beside plain PyTorch: what they find, the time, the memory.

``python -m vimserve.loadtests.detection_operators`` prints a table. Both ways take turns, each in a
process of its own, so that none finds memory that another left behind.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vimserve.kernels import nms, paste_masks
from vimserve.kernels.nms import naive as naive_nms
from vimserve.kernels.paste_masks import naive as naive_paste_masks
from vimserve.model.device_memory import PeakMeter, release_unused

TURNS = 3
SIDE, PROPOSALS, CLASSES, OBJECTS, MASKS = 1248, 1000, 80, 60, 100

Call = Callable[[], tuple[Tensor, ...]]


class Measured(NamedTuple):
    """One turn of one way.

    Attributes:
        ms: milliseconds of every pass.
        peak_bytes: memory above the operands.
        found: the results.
    """

    ms: list[float]
    peak_bytes: int
    found: list[Tensor]


def make_boxes(count: int) -> Tensor:
    """Boxes around some objects of all sizes, as a first stage proposes them, ``[count, 4]``."""
    torch.manual_seed(0)
    sides = 16 * 2 ** (6 * torch.rand(OBJECTS, 1)) * 2 ** (torch.rand(OBJECTS, 2) - 0.5)
    middles = SIDE * torch.rand(OBJECTS, 2)
    of = torch.randint(OBJECTS, (count,))
    middle = middles[of] + 0.15 * sides[of] * torch.randn(count, 2)
    half = sides[of] * torch.exp(0.15 * torch.randn(count, 2)) / 2
    return torch.cat([middle - half, middle + half], 1).clamp(0, SIDE)


def suppress(groups: int, threshold: float) -> dict[str, Call]:
    """All proposals in each group, by random scores."""
    boxes = make_boxes(PROPOSALS)
    order = torch.rand(groups, PROPOSALS).argsort(1).int()
    return {
        "kernel": lambda: (nms.nms(boxes, order, threshold),),
        "plain PyTorch": lambda: (naive_nms.nms(boxes, order, threshold),),
    }


def paste() -> dict[str, Call]:
    """Smooth masks as a model makes them, into boxes of all sizes."""
    boxes = make_boxes(MASKS)
    coarse = torch.randn(MASKS, 1, 4, 4) + 0.5
    masks = F.interpolate(coarse, (28, 28), mode="bicubic")[:, 0].mul(4).sigmoid()
    given = masks, boxes, (SIDE, SIDE), 0.5
    return {
        "kernel": lambda: paste_masks.paste_masks(*given),
        "plain PyTorch": lambda: naive_paste_masks.paste_masks(*given),
    }


CASES: dict[str, Callable[[], dict[str, Call]]] = {
    f"nms, {PROPOSALS:,} proposals": partial(suppress, 1, 0.7),
    f"nms, the same of {CLASSES} classes": partial(suppress, CLASSES, 0.5),
    f"paste_masks, {MASKS} at {SIDE}²": paste,
}
WAYS = ("kernel", "plain PyTorch")


def measure(case: str, way: str, threads: int, runs: int) -> Measured:
    """Measure the time and memory of one way on a CPU."""
    torch.set_num_threads(threads)
    call = CASES[case]()[way]
    if way == "kernel":
        call()  # so that it is compiled
    here = torch.device("cpu")
    release_unused(here)
    with PeakMeter(here) as meter:
        found = call()
    ms = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        ms.append(1e3 * (time.perf_counter() - start))
    return Measured(ms, meter.bytes, list(found))


def main() -> None:
    """Read the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--runs", type=int, default=3, help="timed passes in each turn")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for case in CASES:
        seen: dict[str, list[Measured]] = {way: [] for way in WAYS}
        for _ in range(given.turns):
            for way, measured in seen.items():
                with context.Pool(1) as pool:
                    job = (case, way, given.threads, given.runs)
                    measured.append(pool.apply(measure, job))
        for way, turns in seen.items():
            times = [ms for turn in turns for ms in turn.ms]
            print(
                f"{case:<32} {way:<14} median {statistics.median(times):9.3f} ms  "
                f"fastest {min(times):9.3f} ms  "
                f"peak {max(turn.peak_bytes for turn in turns) / 1e6:9.1f} MB",
                flush=True,
            )
        ours, theirs = (turns[0].found for turns in seen.values())
        same = all(map(torch.equal, ours, theirs))
        print(f"{case:<32} {'the same' if same else 'not the same'}", flush=True)


if __name__ == "__main__":
    main()
