"""The server's batches against filling all, batching equal sizes and no batching.

``python -m vimserve.loadtests.mixed_sizes`` prints a table.

A recorded trace of images of 96 to 1248 pixels and mixed aspect ratios is replayed against the real
model, in one process and without HTTP, by four policies. ``server`` is the server's own queue,
``fill in order`` takes into a batch whatever fits, ``equal sizes`` batches only images of the same
height and width, and ``one at a time`` batches nothing. All have the same budget of tokens.

At first all images wait from the start, which gives the throughput. Then they arrive as recorded,
at ``--load`` times the rate that ``one at a time`` was measured to keep up with, which gives the
latencies. The policies take turns batch by batch, each in time of its own that stands still while
others run, so whatever else the machine does meets all of them alike. What the server has learnt of
the model's costs it knows in all later replays. No speed is reported unless all give every image
the same scores.

``--simulate cpu`` (or ``gpu``) replays the trace on a device that only exists as a cost curve, ten
times in a row, with the server's bound on the queue and its time limit. That takes seconds, and its
table does not depend on this machine.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from vimserve.loadtests.common.options import count, positive
from vimserve.loadtests.mixed_sizes.policies import POLICIES, Limits
from vimserve.loadtests.mixed_sizes.replay import Replay, Station, cut, replay, warm_up
from vimserve.loadtests.mixed_sizes.simulate import DEVICES, PERCENTILES, compare, table
from vimserve.loadtests.mixed_sizes.trace import TRACE, Arrival, read, repeat
from vimserve.model.catalog import load_classifier, names
from vimserve.model.tables import spread
from vimserve.server.config import ServerConfig

LOADS = (0.5, 0.7, 0.9, 1.2, 2.0)
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Run:
    """The figures of one replay; ``load`` is None if all images waited from the start."""

    policy: str
    load: float | None
    images_per_second: float
    images_per_batch: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    error: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the trace by all policies and print the table.

    Returns:
        0, or 1 if a policy gives an image other scores than it gets alone.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        trace = read(options.trace)[: options.images]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.simulate:
        compared = compare(
            DEVICES[options.simulate],
            repeat(trace, options.rounds or 10),
            options.load or LOADS,
            timeout_s=options.timeout,
            queue_tokens=options.max_queue_tokens,
        )
        print(table(compared))
        return 0
    return _replay(options, trace)


def _replay(options: argparse.Namespace, trace: Sequence[Arrival]) -> int:
    torch.manual_seed(0)
    weights = None if options.model == "demo" else "random"
    model = load_classifier(options.model, weights=weights)
    images = cut(model, trace)
    warm_up(model, images)
    rounds, limits = options.rounds or 3, Limits(options.max_batch_tokens, sys.maxsize)
    print(
        f"{options.model}, {len(trace)} images, {rounds} rounds, at most "
        f"{options.max_batch_tokens} tokens a batch, float32, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, torch {torch.__version__}"
    )

    alone = torch.cat([model(image) for image in images])
    stations = {name: Station(make, limits) for name, make in POLICIES.items()}

    def run(gap_s: float, load: float | None) -> list[Run]:
        replays = replay(model, trace, images, stations.values(), gap_s)
        return [
            _figures(policy, load, replayed, float((replayed.scores - alone).abs().max()))
            for policy, replayed in zip(stations, replays, strict=True)
        ]

    runs = [one for _ in range(rounds) for one in run(0.0, None)]
    slowest = statistics.median(r.images_per_second for r in runs if r.policy == "one at a time")
    # Round by round, so that a disturbed minute meets all loads.
    gaps = {load: 1 / (load * slowest) for load in options.load or [0.7]}
    for _ in range(rounds):
        for load, gap_s in gaps.items():
            runs += run(gap_s, load)

    if options.json:
        report = {
            "model": options.model,
            "trace": options.trace.name,
            "images": len(trace),
            "max_batch_tokens": options.max_batch_tokens,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "runs": [asdict(run) for run in runs],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    worst = max(runs, key=lambda run: run.error)
    if not worst.error <= TOLERANCE:
        print(
            f"mixed_sizes: {worst.policy!r} gives a score that is {worst.error:.2e} off what the "
            f"image gets alone, more than {TOLERANCE:g}",
            file=sys.stderr,
        )
        return 1
    _print(runs)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.mixed_sizes", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--model", choices=names(), default="demo", help="all but demo get random weights [demo]"
    )
    parser.add_argument("--trace", type=Path, default=TRACE, help="what arrives [%(default)s]")
    parser.add_argument("--images", type=count, help="only so many, the first [all]")
    parser.add_argument(
        "--rounds",
        type=count,
        help="turns of each policy [3], or of the trace if it is simulated [10]",
    )
    parser.add_argument(
        "--load", type=positive, action="append", metavar="FACTOR",
        help="arrivals, as a multiple of the throughput of one at a time, repeatable [0.7; "
        f"if it is simulated {', '.join(map(str, LOADS))}]",
    )  # fmt: skip
    parser.add_argument(
        "--max-batch-tokens", type=count, default=8192, help="as the server's [%(default)s]"
    )
    parser.add_argument("--simulate", choices=DEVICES, help="on such a device, in no time")
    defaults = ServerConfig.model_fields
    parser.add_argument(
        "--timeout", type=positive, default=defaults["request_timeout"].default,
        help="seconds until a simulated request expires [%(default)s]",
    )  # fmt: skip
    parser.add_argument(
        "--max-queue-tokens", type=count, default=defaults["max_queue_tokens"].default,
        help="that wait on a simulated device [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures of each run to this file")
    return parser


def _figures(policy: str, load: float | None, replayed: Replay, error: float) -> Run:
    p50, p95, p99 = np.percentile(replayed.latencies_s, PERCENTILES) * 1e3
    images = len(replayed.latencies_s)
    return Run(
        policy=policy,
        load=load,
        images_per_second=images / replayed.makespan_s,
        images_per_batch=images / replayed.batches,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        error=error,
    )


def to_best(policy: str, replays: Mapping[str, Sequence[Run]], field: str) -> float:
    """A policy's figure as a multiple of the best that another policy has.

    It is taken round by round, because the machine's speed may drift; the best policy is the one to
    which the median of these multiples is greatest.

    Args:
        policy: its name.
        replays: of all policies, by their names, in the order of the rounds.
        field: of a run; less is better.
    """
    multiples: list[float] = [
        statistics.median(
            getattr(own, field) / getattr(other, field)
            for own, other in zip(replays[policy], others, strict=True)
        )
        for name, others in replays.items()
        if name != policy
    ]
    return max(multiples)


def _print(runs: Sequence[Run]) -> None:
    """Print medians over the rounds, and the least and greatest throughput."""
    fields = ("p50_ms", "p95_ms", "p99_ms")
    print(
        f"{'':<32}{'images/s':^24}{'a batch':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
        f"{'to the best other':^22}"
    )
    for load in dict.fromkeys(run.load for run in runs):
        title = "all at once" if load is None else f"load {load:g}"
        replays = {
            policy: [run for run in runs if (run.policy, run.load) == (policy, load)]
            for policy in POLICIES
        }
        for policy, mine in replays.items():
            rates = [run.images_per_second for run in mine]
            batch, *latencies = (
                statistics.median(getattr(run, field) for run in mine)
                for field in ("images_per_batch", *fields)
            )
            print(
                f"{title:<16}{policy:<16}{spread(rates):^24}{batch:>9.1f}"
                + "".join(f"{latency:>9.0f}" for latency in latencies)
                + "  "
                + "".join(f"{to_best(policy, replays, field):>6.2f}" for field in fields)
            )


if __name__ == "__main__":
    raise SystemExit(main())
