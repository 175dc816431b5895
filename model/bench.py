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
from vimserve.model.catalog import load_model, names, resolve
from vimserve.model.cpu import multiplies_bfloat16
from vimserve.model.device_memory import PeakMeter, release_unused

SIZES = (224, 512, 1248)
LEAST_SECONDS = 2.0
LEAST_RUNS = 5


@dataclass(frozen=True)
class Measurement:
    """One model at one size; of a segmenter, to a class for every pixel.

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


def measure(
    model: str,
    weights: str | None,
    size: int,
    batch: int,
    threads: int,
    device: str = "cpu",
    least_runs: int = LEAST_RUNS,
    dtype: torch.dtype | None = None,
) -> Measurement:
    """Load, warm up and time one configuration; meant for a process of its own.

    On a GPU the model is launched kernel by kernel. ``dtype`` is float32 on a CPU and bfloat16 on a
    GPU if it is not given.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    where, on_cpu = torch.device(device), device == "cpu"
    config = resolve(model).config
    dtype = dtype or (torch.float32 if on_cpu else torch.bfloat16)
    module = load_model(model, weights, where, dtype)
    module.warm_up()
    side = -(-size // config.stride) * config.stride
    images = [torch.randint(256, (3, side, side), dtype=torch.uint8) for _ in range(batch)]
    packed = PackedBatch.from_images(images, config.patch_size, config.stride).to(where)
    own_size = [(side, side)] * batch

    def run() -> float:
        start = time.perf_counter()
        module.answer(packed, own_size)
        if not on_cpu:
            torch.cuda.synchronize(where)
        return time.perf_counter() - start

    release_unused(where)
    with PeakMeter(where) as meter:
        run()
    times: list[float] = []
    while len(times) < least_runs or sum(times) < LEAST_SECONDS:
        times.append(run())
    median = statistics.median(times)
    return Measurement(
        model=model,
        size=side,
        batch=batch,
        tokens=module.num_tokens(packed.grids[0]),
        runs=len(times),
        median_ms=1e3 * median,
        fastest_ms=1e3 * min(times),
        images_per_second=batch / median,
        peak_above_weights_bytes=meter.bytes,
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
        "--threads", type=int, default=torch.get_num_threads(), help="CPU threads [%(default)s]"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="[%(default)s]"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    if options.dtype == "bfloat16" and not multiplies_bfloat16():
        parser.error("--dtype: this CPU has no instructions for bfloat16")

    print(
        f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, "
        f"{options.dtype}"
    )
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
                job = (model, weights, size, options.batch, options.threads)
                dtype = {"dtype": getattr(torch, options.dtype)}
                result = pool.apply(measure, job, dtype)
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
