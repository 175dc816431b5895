"""The bare model, without a server: time, images per second and memory above the weights.

``vimserve bench`` prints a table. For Linux, whose accounts of memory it reads.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vimserve.model.batch import PackedBatch
from vimserve.model.bfloat16 import multiplies_bfloat16
from vimserve.model.catalog import load_model, names
from vimserve.model.cpus import usable_cpus
from vimserve.model.device_memory import PeakMeter, release_unused
from vimserve.model.families.cascade.model import CascadeDetector
from vimserve.model.served import ServedModel
from vimserve.model.threads import use_threads

SIZES = (224, 512, 1248)
LEAST_SECONDS = 2.0
LEAST_RUNS = 5


@dataclass(frozen=True)
class Measurement:
    """One model at one size, to what a request gets of it by default.

    ``median_ms`` is of a forward pass over the whole batch. ``peak_above_weights_bytes`` is how far
    the device's memory (on a CPU the resident set) rose during the first pass above what it was
    with the model loaded. ``tokens`` is the length of one image's sequence.
    """

    model: str
    size: int
    batch: int
    tokens: int
    runs: int
    median_ms: float
    fastest_ms: float
    images_per_second: float
    peak_above_weights_bytes: int


class Forward:
    """Forward passes of a model over the same random images.

    Args:
        module: the model.
        size: side of the images in pixels, rounded up to whole patches.
        batch: how many images go together.
        device: where the model is.
        backbone: of a detector, whether only its backbone runs.

    Attributes:
        size: the side after rounding.
        tokens: length of one image's sequence.
    """

    def __init__(
        self,
        module: ServedModel,
        size: int,
        batch: int,
        device: str = "cpu",
        *,
        backbone: bool = False,
    ) -> None:
        config = module.config
        self._module, self._device = module, torch.device(device)
        self.size = -(-size // config.stride) * config.stride
        shape = (3, self.size, self.size)
        images = [torch.randint(256, shape, dtype=torch.uint8) for _ in range(batch)]
        packed = PackedBatch.from_images(images, config.patch_size, config.stride)
        self._packed = packed.to(self._device)
        self._wanted = [module.whole((self.size, self.size))] * batch
        self.tokens = module.num_tokens(packed.grids[0])
        self._backbone_alone = module if backbone and isinstance(module, CascadeDetector) else None

    def seconds(self) -> float:
        """How long one pass takes, to what a request gets of the model by default."""
        start = time.perf_counter()
        if self._backbone_alone is None:
            self._module.answer(self._packed, self._wanted)
        else:
            with self._module.running(self._packed):
                self._backbone_alone.last_features(self._packed)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - start

    def peak_bytes(self) -> int:
        """How far the device's memory, on a CPU the resident set, rises during one pass.

        To be called before any other pass: later ones find memory that the first left behind.
        """
        release_unused(self._device)
        with PeakMeter(self._device) as meter:
            self.seconds()
        return meter.bytes


def load(
    model: str,
    weights: str | None,
    threads: int | None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> ServedModel:
    """Load a model to measure in this process, and warm it up.

    On a GPU it is launched kernel by kernel. Without ``threads`` their number adapts, as in the
    server. ``dtype`` is float32 on a CPU and bfloat16 on a GPU if it is not given.
    """
    use_threads(threads)
    torch.manual_seed(0)
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    module = load_model(model, weights, torch.device(device), dtype)
    module.warm_up()
    return module


def measure(
    model: str,
    weights: str | None,
    size: int,
    batch: int,
    threads: int | None,
    dtype: torch.dtype = torch.float32,
) -> Measurement:
    """Load, warm up and time one configuration on the CPU; meant for a process of its own."""
    forward = Forward(load(model, weights, threads, dtype=dtype), size, batch)
    peak = forward.peak_bytes()
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < LEAST_SECONDS:
        times.append(forward.seconds())
    median = statistics.median(times)
    return Measurement(
        model=model,
        size=forward.size,
        batch=batch,
        tokens=forward.tokens,
        runs=len(times),
        median_ms=1e3 * median,
        fastest_ms=1e3 * min(times),
        images_per_second=batch / median,
        peak_above_weights_bytes=peak,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every model at every size and print a table."""
    parser = argparse.ArgumentParser(prog="vimserve bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", action="append", choices=names(), help="catalog name, repeatable [vim-tiny]"
    )
    parser.add_argument(
        "--weights",
        help="a checkpoint file instead of random weights; timing does not depend on them",
    )
    parser.add_argument("--size", type=int, action="append", help=f"pixels, repeatable [{SIZES}]")
    parser.add_argument("--batch", type=int, default=1, help="images per forward pass [1]")
    parser.add_argument(
        "--threads", type=int, help="CPU threads [adapted to other processes, as in the server]"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="[%(default)s]"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    if options.dtype == "bfloat16" and not multiplies_bfloat16():
        parser.error("--dtype: this CPU has no instructions for bfloat16")

    threads = options.threads or f"1 to {usable_cpus()}"
    print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}, {options.dtype}")
    print(
        f"{'model':<20}{'pixels':>8}{'batch':>7}{'ms':>10}{'images/s':>10}{'MB above weights':>18}"
    )
    results = []
    # A process for each: none finds memory that another left behind.
    context = multiprocessing.get_context("spawn")
    for model in options.model or ["vim-tiny"]:
        for size in options.size or SIZES:
            with context.Pool(1) as pool:
                weights = options.weights or "random"
                dtype = getattr(torch, options.dtype)
                job = (model, weights, size, options.batch, options.threads, dtype)
                result = pool.apply(measure, job)
            results.append(result)
            print(
                f"{model:<20}{result.size:>8}{result.batch:>7}{result.median_ms:>10.1f}"
                f"{result.images_per_second:>10.2f}{result.peak_above_weights_bytes / 1e6:>18.1f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
