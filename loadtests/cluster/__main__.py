"""``python -m vimserve.loadtests.cluster overhead|chaos|routing``."""

import argparse
import sys
from collections.abc import Sequence

from vimserve.loadtests.cluster import chaos, overhead, routing
from vimserve.loadtests.common.options import count


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the router or its choices, or do to a cluster what must not harm it.

    Returns:
        0, or 1 if a server does not start, or if a request ended as it must not.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.what == "overhead":
            flags = ["--model", options.model]
            sizes = options.size or [224, 1248]
            overhead.compare(flags, sizes, options.clients, options.pairs, options.seconds)
            return 0
        if options.what == "routing":
            routing.compare(options.pairs, options.seconds, options.seed)
            return 0
        return 0 if chaos.live_through(options.seed, options.clients) else 1
    except (RuntimeError, TimeoutError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.cluster", description=__doc__
    )
    parser.add_argument("what", choices=("overhead", "chaos", "routing"))
    parser.add_argument("--clients", type=count, default=4, help="at once [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of chaos and arrivals [%(default)s]")
    parser.add_argument("--model", default="demo", help="of the overhead [%(default)s]")
    parser.add_argument("--size", type=count, action="append", help="pixels [224, 1248]")
    parser.add_argument("--pairs", type=count, default=5, help="turns of both [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn [%(default)s]")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
