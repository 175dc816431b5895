"""Forward passes beside other processes: one thread, all threads, a number that adapts.

``python -m vimserve.loadtests.contention`` prints a table for each size of the image:

- alone: nothing else runs;
- one busy, two busy: so many other processes keep a core busy each;
- quota 1.0: the passes' control group gets one CPU's worth of time. That takes the right to make a
  group (usually root); without it the lines are left out and the reason is printed.

The three ways take turns in one process that has loaded the model, and ratios are taken round by
round, since the machine's speed may drift. A ratio is given with its smallest and largest value.
"all threads" is one thread for each CPU, which is PyTorch's default; "adapted" is the server's.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vimserve.loadtests.common.options import count, positive
from vimserve.loadtests.compare.results import describe
from vimserve.loadtests.contention.compare import ADAPTED, ALL, ONE, Compared, compare
from vimserve.loadtests.contention.disturb import Disturbance
from vimserve.model.catalog import names
from vimserve.model.tables import spread

SIZES = (224, 1248)
DISTURBANCES = {
    disturbance.name: disturbance
    for disturbance in (
        Disturbance("alone"),
        Disturbance("one busy", busy=1),
        Disturbance("two busy", busy=2),
        Disturbance("quota 1.0", quota=1.0),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every size beside every disturbance and print the tables.

    Returns:
        0, or 1 if a quota was asked for by name and cannot be had.
    """
    options = _parser().parse_args(arguments)
    cores = len(os.sched_getaffinity(0))
    machine = describe("cpu", cores)
    print(
        f"{options.model}, one image at a time, on {cores} CPUs ({machine['device']}), torch "
        f"{machine['torch']}; {options.rounds} rounds of {options.seconds:g} s"
    )
    wanted = [DISTURBANCES[name] for name in options.beside or DISTURBANCES]
    measured, refused = [], False
    for pixels in options.size or SIZES:
        print(
            f"\n{f'{pixels} pixels':<12}{'':<14}{'threads':>8}{'ms a pass':>11}"
            f"{'of one thread':>22}{'of all threads':>22}"
        )
        for disturbance in wanted:
            try:
                compared = compare(
                    options.model, pixels, disturbance, options.rounds, options.seconds
                )
            except OSError as error:
                print(f"{disturbance.name:<12}left out: {error}", flush=True)
                refused = True
                continue
            measured.append(compared)
            _print(compared)
    if options.json:
        report = {
            "environment": machine,
            "model": options.model,
            "seconds": options.seconds,
            "measured": [asdict(compared) for compared in measured],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(refused and bool(options.beside))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.contention", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", choices=names(), default="vim-tiny", help="[%(default)s]")
    parser.add_argument(
        "--size", type=count, action="append", metavar="PIXELS",
        help="side of the image, a multiple of the model's stride, repeatable "
        f"[{', '.join(map(str, SIZES))}]",
    )  # fmt: skip
    parser.add_argument(
        "--beside", action="append", choices=DISTURBANCES, help="repeatable [all of them]"
    )
    parser.add_argument("--rounds", type=count, default=6, help="turns of each way [%(default)s]")
    parser.add_argument(
        "--seconds", type=positive, default=3.0, help="of a turn, at least [%(default)s]"
    )
    parser.add_argument("--json", type=Path, help="write every pass to this file")
    return parser


def _print(compared: Compared) -> None:
    for way in (ONE, ALL, ADAPTED):
        name = compared.disturbance.name if way == ONE else ""
        of_one, of_all = (spread(compared.ratios(way, to), " to ") for to in (ONE, ALL))
        print(
            f"{name:<12}{way:<14}{compared.threads(way):>8.2f}{compared.mean_ms(way):>11.1f}"
            f"{of_one:>22}{of_all:>22}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
