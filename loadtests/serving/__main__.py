"""The server against its own model and against LitServe, on images of mixed sizes.

``python -m vimserve.loadtests.serving`` prints a table for the first images of the recorded trace,
and one for images of 1248 pixels squared.

Four take turns: the bare model one image at a time, the bare model on packed batches, the server,
and LitServe with the same model and the same decoding. The bare model gets images that are decoded
and cut into patches already. Both servers get JPEG files from clients that send the next when they
have their answer. Ratios are taken round by round, because the machine's speed may drift; beside
the median stand the least and the greatest. Below are the milliseconds of processor time for each
image: of the thread that runs the model with its helpers, of the decoders, of the clients, which
share the processor, and of all else, which is above all the event loop. The last are those that
nobody used, and those that the hypervisor gave to other machines.

No speed is reported unless both servers give every image the bare model's scores.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from vimserve.loadtests.common.options import count, positive
from vimserve.loadtests.common.weights import embedded, random_weights
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read
from vimserve.loadtests.serving.rounds import CONTESTANTS, PACKED, TIMES, Load, Turn, run_rounds
from vimserve.model.catalog import names
from vimserve.model.tables import spread

MIXED = "mixed"
IMAGES, SQUARES, SIDE = 60, 8, 1248


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on all the images that were asked for and print a table for each.

    Returns:
        0, or 1 if a server does not start or answers other than the bare model.
    """
    options = _parser().parse_args(arguments)
    contestants = [one for one in CONTESTANTS if one not in options.without]
    print(
        f"{options.model}, {options.clients} clients, {options.rounds} rounds of "
        f"{options.seconds:g} s, packed by {options.batch}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, torch {torch.__version__}"
    )
    report = []
    with tempfile.TemporaryDirectory() as folder:
        weights = None if embedded(options.model) else random_weights(options.model, Path(folder))
        for sizes in options.sizes or [MIXED, SIDE]:
            images = _images(sizes, options.images)
            load = Load(images, options.batch, options.clients, options.rounds, options.seconds)
            try:
                turns = list(run_rounds(options.model, weights, load, contestants))
            except RuntimeError as error:
                print(f"serving: {error}", file=sys.stderr)
                return 1
            report.append({"sizes": sizes, "turns": [asdict(turn) for turn in turns]})
            _print(sizes, contestants, turns)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def ratios(turns: Sequence[Turn], contestant: str, to: str = PACKED) -> list[float]:
    """A contestant's throughput over that of another one, round by round."""
    mine, theirs = (
        [turn.images_per_second for turn in turns if turn.contestant == name]
        for name in (contestant, to)
    )
    return [a / b for a, b in zip(mine, theirs, strict=True)]


def _images(sizes: str | int, most: int) -> list[Arrival]:
    if isinstance(sizes, int):
        return [Arrival(0, sizes, sizes)] * min(most, SQUARES)
    return read(TRACE)[:most]


def _parser() -> argparse.ArgumentParser:
    def sizes(text: str) -> str | int:
        return text if text == MIXED else count(text)

    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.serving", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--model", choices=names(), default="demo",
        help="all but the demo get random weights [%(default)s]",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=sizes, action="append", metavar="PIXELS",
        help=f"'{MIXED}' for those of the trace, or a side, repeatable [{MIXED}, {SIDE}]",
    )  # fmt: skip
    parser.add_argument("--images", type=count, default=IMAGES, help="most of them [%(default)s]")
    parser.add_argument("--batch", type=count, default=6, help="of the bare model [%(default)s]")
    parser.add_argument("--clients", type=count, default=8, help="at once [%(default)s]")
    parser.add_argument("--rounds", type=count, default=5, help="turns of each [%(default)s]")
    parser.add_argument(
        "--seconds", type=positive, default=5.0, help="of a turn, at least [%(default)g]"
    )
    parser.add_argument(
        "--without", choices=[one for one in CONTESTANTS if one != PACKED], action="append",
        default=[], help="leave one out, repeatable",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures of each turn to this file")
    return parser


def _print(sizes: str | int, contestants: Sequence[str], turns: Sequence[Turn]) -> None:
    title = "mixed sizes" if sizes == MIXED else f"{sizes}x{sizes}"
    print(
        f"\n{title:<14}{'images/s':>10}{'to packed':^22}{'small ms':>9}"
        + "".join(f"{part:>10}" for part in TIMES)
    )
    for contestant in contestants:
        mine = [turn for turn in turns if turn.contestant == contestant]
        rate = statistics.median(turn.images_per_second for turn in mine)
        to_packed = spread(ratios(turns, contestant))
        waits = [turn.small_ms for turn in mine if turn.small_ms is not None]
        small = f"{statistics.median(waits):.0f}" if waits else "-"
        parts = (statistics.median(turn.cpu_ms.get(part, 0.0) for turn in mine) for part in TIMES)
        print(
            f"{contestant:<14}{rate:>10.1f}{to_packed:^22}{small:>9}"
            + "".join(f"{cpu_ms:>10.1f}" for cpu_ms in parts),
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
