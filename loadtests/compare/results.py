"""What a comparison has measured, and on which machine."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from vimserve import __version__
from vimserve.loadtests.common.checkout import commit
from vimserve.model.bench import Measurement


@dataclass(frozen=True)
class Served:
    """One model over HTTP under one load.

    Attributes:
        model: its name in the server.
        size: side of the square images, in pixels.
        clients: how many sent at once.
        seconds: from the start of the load to the last answer.
        requests: how many ended.
        refused: how many of them were refused because there was too much to do.
        wrong: how many of them ended otherwise than with the right answer or such a refusal.
        images_per_s: right answers a second.
        p50_ms: median of the latencies.
        p95_ms: their 95th percentile.
        p99_ms: their 99th percentile.
        stage_ms: mean time of a request in each of the server's stages.
        images_per_batch: on the average.
        busy: share of the time in which the device ran batches.
        peak_memory_bytes: what a batch took above the weights at its peak, on the average; of a
            CUDA graph, what the pass took while it was recorded.
    """

    model: str
    size: int
    clients: int
    seconds: float
    requests: int
    refused: int
    wrong: int
    images_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stage_ms: dict[str, float]
    images_per_batch: float
    busy: float
    peak_memory_bytes: float


@dataclass
class Results:
    """All that one comparison has measured; ``partial`` until it has come to its end."""

    environment: dict[str, str | int]
    task: str
    models: list[str]
    sizes: list[int]
    partial: bool = True
    bare: list[Measurement] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)

    def alone(self, model: str, size: int) -> Measurement | None:
        """The bare model on one image; None if that was not measured."""
        found = (m for m in self.bare if (m.model, m.size, m.batch) == (model, size, 1))
        return next(found, None)

    def save(self, folder: Path) -> None:
        """Write ``results.json``."""
        (folder / "results.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


def describe(device: str, threads: int) -> dict[str, str | int]:
    """The machine and the versions, as far as they bear on speed."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if device != "cpu" else _processor(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "dtype": "float32" if device == "cpu" else "bfloat16",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vimserve": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
