"""What every training script can be told."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How long to train, on what, from where, and where to.

    Attributes:
        output: file of the weights; ``.training.json`` beside it says how they came about.
        minutes: training time.
        seed: of everything random.
        start_from: weights to go on from.
        tokens: patches per step of each process.
        processes: that train together, each on one core.
    """

    output: Path
    minutes: float
    seed: int = 0
    start_from: Path | None = None
    tokens: int = 2048
    processes: int = os.cpu_count() or 1


def read_options(description: str | None, defaults: Options) -> Options:
    """The command line's options, where it has any, otherwise the ``defaults``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="training time")
    parser.add_argument("--tokens", type=int, help="patches per step of each process")
    parser.add_argument("--output", type=Path, help="file of the weights")
    parser.add_argument("--processes", type=int, help="one for each core")
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--start-from", type=Path, help="weights to go on from")
    parser.set_defaults(**vars(defaults))
    return Options(**vars(parser.parse_args()))
