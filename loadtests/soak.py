"""Load a server with everything that a hard day brings, and check that nothing is lost or wrong.

``python -m vimserve.loadtests.soak --seconds 60 --overload 2 -- --model demo`` starts a server of
its own; everything after ``--`` are flags of ``vimserve serve``. The load is an open loop:
requests arrive at random however slow the answers are, and latency counts from when a request was
to be sent.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from vimserve.loadtests.load.client import KEEP_ALIVE_S, session
from vimserve.loadtests.load.generator import Sender, closed_loop, open_loop, poisson
from vimserve.loadtests.load.mix import BAD, KINDS, WORK, Mix
from vimserve.loadtests.load.process import Usage, usage
from vimserve.loadtests.load.report import Report
from vimserve.loadtests.load.server import serving
from vimserve.loadtests.load.watch import Sample, scrape, values, watch

CAPACITY_S, CAPACITY_CLIENTS = 5.0, 16
REST_S = 15.0
# For everything besides the load itself: references, capacity, the last answers.
BESIDES_S = 300.0


async def soak(url: str, pid: int | None, options: argparse.Namespace) -> Report:
    """Load the server at ``url``; the memory and handles of process ``pid`` are watched.

    Raises:
        RuntimeError: if the server is not fit to be loaded at all.
        TimeoutError: ``BESIDES_S`` after the end of the load.
    """
    mix = Mix(options.seed, options.timeout_ms)
    report = Report(options.rate)
    async with asyncio.timeout(options.seconds + BESIDES_S), session(url) as connections:
        sender = await Sender.of(connections, mix)
        # One at a time, so that nothing but what they are decides about them.
        report.add_faults([await sender.send(mix.make(kind)) for kind in BAD])
        # Afterwards all threads that the server may have are there.
        singles = [mix.single(index) for index in range(len(mix.pool))]
        report.add_faults(await asyncio.gather(*map(sender.send, singles)))
        if options.overload:
            report.capacity, outcomes = await closed_loop(
                sender.send,
                lambda: mix.draw(WORK),
                CAPACITY_CLIENTS,
                min(CAPACITY_S, options.seconds / 2),
            )
            report.add_faults(outcomes)
            work = sum(KINDS[kind] for kind in WORK) / sum(KINDS.values())
            report.rate = max(options.overload * report.capacity / work, 1)
        before = await _at_rest(pid, None)
        arrivals = poisson(report.rate, options.seconds, options.max_requests, options.seed)
        report.sent = len(arrivals)
        samples: list[Sample] = []
        watcher = asyncio.create_task(watch(connections, pid, samples))
        try:
            report.add_outcomes(await open_loop(sender.send, mix.draw, arrivals))
        finally:
            watcher.cancel()
        report.add_samples(samples)
        after = await _at_rest(pid, before)
        if before and after:
            report.add_usage(before, after)
        elif pid is not None:
            report.failures.append(f"process {pid} has ended")
        report.failures += await _aftermath(connections, sender, mix)
    return report


async def _at_rest(pid: int | None, before: Usage | None) -> Usage | None:
    """What the process holds once idle connections are closed, ``REST_S`` later at most; None if
    it has ended.
    """
    if pid is None:
        return None
    end = time.monotonic() + REST_S
    await asyncio.sleep(2 * KEEP_ALIVE_S)
    try:
        now = usage(pid)
        while before and now.file_descriptors > before.file_descriptors and time.monotonic() < end:
            await asyncio.sleep(0.5)
            now = usage(pid)
    except OSError:
        return None
    return now


async def _aftermath(connections: aiohttp.ClientSession, sender: Sender, mix: Mix) -> list[str]:
    """What is not as it was before the load."""
    failures = []
    try:
        for path in ("/healthz", "/readyz", "/healthz?probe=true"):
            async with connections.get(path) as answer:
                if answer.status != 200:
                    failures.append(f"{path} says {answer.status} after the load")
        outcome = await sender.send(mix.single(0))
        if outcome.status != 200 or outcome.fault:
            failures.append(f"a good request after the load: {outcome.fault or outcome.end}")
        metrics = await scrape(connections)
        for name in ("vimserve_inflight", "vimserve_queue_depth", "vimserve_queue_tokens"):
            left = sum(values(metrics, name))
            if left:
                failures.append(f"{name} is {left:g} after the load")
    except (aiohttp.ClientError, OSError) as error:
        failures.append(f"the server cannot be reached after the load: {error!r}")
    return failures


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
    parser.add_argument("--max-requests", type=int, default=1_000_000, help="[%(default)s]")
    parser.add_argument("--timeout-ms", type=int, default=10_000, help="deadline [%(default)s]")
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
