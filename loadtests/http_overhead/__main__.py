"""Throughput over HTTP against the bare model in a loop.

``python -m vimserve.loadtests.http_overhead`` prints a table.

The bare model runs decoded images in a process of its own, one at a time and at the best batch size
of 1, 4 and 8. The server gets the same images as JPEG from clients in another process; each of them
sends its next request when it has its answer. The two take turns, and their ratio is taken pair by
pair, because the machine's speed may drift. The clients share the processor with the server; how
much of it they use is in the table.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from vimserve.loadtests.common.options import count
from vimserve.loadtests.common.weights import random_weights
from vimserve.loadtests.http_overhead.pairs import Comparison, compare_with_bare
from vimserve.model.catalog import names
from vimserve.model.tables import spread

MODELS = ("demo", "vim-tiny")
SIZES = (224, 1248)
# Clients at once: enough to fill one batch and the next; the requests of more would only wait.
MANY, FEW = 16, 4
MANY_BELOW_PIXELS = 640


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all models at all sizes and print the table.

    Returns:
        0, or 1 if a server does not start or answers other than the bare model.
    """
    options = _parser().parse_args(arguments)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{options.pairs} pairs of {options.seconds:g} s"
    )
    print(
        f"{'':<24}{'images/s':^30}{'server / bare':^40}{'CPU ms an image':^28}\n"
        f"{'model':<16}{'pixels':>8}{'bare':>10}{'best (batch)':>12}{'server':>8}"
        f"{'batch 1':^20}{'best':^20}{'bare':>8}{'server':>10}{'clients':>10}",
        flush=True,
    )
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.model or MODELS:
            weights = None if model == "demo" else random_weights(model, Path(folder))
            for size in options.size or SIZES:
                connections = options.connections or (MANY if size < MANY_BELOW_PIXELS else FEW)
                try:
                    comparison = compare_with_bare(
                        model, weights, size, connections, options.pairs, options.seconds
                    )
                except RuntimeError as error:
                    print(f"http_overhead: {error}", file=sys.stderr)
                    return 1
                comparisons.append(comparison)
                _print(comparison)
    if options.json:
        report = {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seconds": options.seconds,
            "comparisons": [asdict(comparison) for comparison in comparisons],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    def duration(text: str) -> float:
        number = float(text)
        if not 0 < number <= 120:
            raise argparse.ArgumentTypeError(f"must be above 0 and at most 120, not {number:g}")
        return number

    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.http_overhead", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--model", action="append", choices=names(),
        help=f"repeatable; all but demo get random weights [{', '.join(MODELS)}]",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=count, action="append", metavar="PIXELS",
        help="side of the images, a multiple of the model's stride, repeatable "
        f"[{', '.join(map(str, SIZES))}]",
    )  # fmt: skip
    parser.add_argument("--pairs", type=count, default=5, help="turns of both [%(default)s]")
    parser.add_argument(
        "--seconds", type=duration, default=5.0, help="of each run, at least [%(default)s]"
    )
    parser.add_argument(
        "--connections", type=count,
        help=f"clients at once [{MANY}, from {MANY_BELOW_PIXELS} pixels on {FEW}]",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write every pair to this file")
    return parser


def _print(comparison: Comparison) -> None:
    median = comparison.median
    to_bare, to_best = (spread(comparison.ratios(to)) for to in ("bare", "best"))
    best = f"{median('best'):.2f} ({comparison.best_batch})"
    cpu_ms = [1e3 * median(f"{of}_cpu_s") for of in ("bare", "server", "client")]
    print(
        f"{comparison.model:<16}{comparison.pixels:>8}{median('bare'):>10.2f}{best:>12}"
        f"{median('server'):>8.2f}{to_bare:^20}{to_best:^20}"
        f"{cpu_ms[0]:>8.1f}{cpu_ms[1]:>10.1f}{cpu_ms[2]:>10.2f}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
