"""Load a server with everything that a hard day brings, and check that nothing is lost or wrong.

``python -m vimserve.loadtests.soak --seconds 60 --overload 2 -- --model demo`` starts a server of
its own; everything after ``--`` is a flag of ``vimserve serve``. The load is an open loop: requests
are sent at random times whether or not earlier ones have been answered, and the latency of each
counts from when it was to be sent.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from vimserve.loadtests.common.options import add_patience
from vimserve.loadtests.common.server import serving
from vimserve.loadtests.soak.run import soak


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.soak", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--url", help="a server on this machine, instead of one of its own")
    parser.add_argument("--pid", type=int, help="the process of --url, to watch its memory")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=float, default=20.0, help="requests a second [%(default)s]")
    pace.add_argument("--overload", type=float, help="this many times what the server can do")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load [%(default)s]")
    parser.add_argument("--max-requests", type=int, default=1_000_000, help="at most [%(default)s]")
    parser.add_argument("--timeout-ms", type=int, default=10_000, help="deadline [%(default)s]")
    add_patience(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the mix and times [%(default)s]")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("flags", nargs="*", help="after --: flags of vimserve serve")
    options = parser.parse_args(arguments)
    for name in ("rate", "overload", "seconds", "max_requests", "timeout_ms"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            parser.error(f"--{name.replace('_', '-')} must be more than 0, not {value}")
    if options.url and options.flags:
        parser.error("--url and flags of a server exclude each other")
    if options.url and not _is_loopback(options.url):
        parser.error(f"--url must be on the loopback, like http://127.0.0.1:8000: {options.url}")
    if options.pid and not options.url:
        parser.error("--pid goes with --url")
    return options


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(parts.hostname).is_loopback
    return parts.hostname == "localhost"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak and print its table.

    Returns:
        0, or 1 if anything failed.
    """
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.url:
            report = asyncio.run(soak(options.url, options.pid, options))
        else:
            with serving(options.flags) as server:
                report = asyncio.run(soak(server.url, server.pid, options))
                status = server.stop()
                if status != 0:
                    report.failures.append(f"the server ended with status {status}")
                if "Traceback" in server.log:
                    report.failures.append("the server's log has a traceback")
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        print(f"soak: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print(report.table())
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        options.json.write_text(json.dumps({"settings": settings} | asdict(report)) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
