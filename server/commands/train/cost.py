"""What a model takes to answer, measured."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from vimserve.model.batch import PackedBatch
from vimserve.model.device_memory import PeakMeter, release_unused
from vimserve.model.packed import PackedModel

RUNS = 3


@dataclass(frozen=True)
class Cost:
    """Of one picture alone.

    Attributes:
        ms: time of a forward pass.
        peak_bytes: memory above the weights.
    """

    ms: float
    peak_bytes: int


def measure(model: PackedModel, pixels: Tensor) -> Cost:
    """What a model takes for a picture, uint8 ``[3, H, W]``: the median of some runs."""
    config, device = model.config, next(model.parameters()).device
    batch = PackedBatch.from_images([pixels], config.patch_size, config.stride).to(device)
    model(batch)
    release_unused(device)
    with PeakMeter(device) as meter:
        model(batch)
    times = [_timed(model, batch, device) for _ in range(RUNS)]
    return Cost(1e3 * statistics.median(times), meter.bytes)


def _timed(model: PackedModel, batch: PackedBatch, device: torch.device) -> float:
    begin = time.perf_counter()
    model(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
