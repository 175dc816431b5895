"""The soak itself: references, capacity, the load, and what is left after it."""

import argparse
import asyncio
import time

import aiohttp

from vimserve.loadtests.common.client import KEEP_ALIVE_S, open_session, scrape, values
from vimserve.loadtests.common.mix import BAD, KINDS, WORK, Mix
from vimserve.loadtests.common.process import Usage, usage
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.soak.loops import closed_loop, open_loop, poisson
from vimserve.loadtests.soak.report import Report
from vimserve.loadtests.soak.watch import Snapshot, watch

CAPACITY_S, CAPACITY_CLIENTS = 5.0, 16
# An answer is late so long after its deadline; so long after it, it is no longer waited for.
LATE_S, MISSING_S = 1.0, 10.0
REST_S = 15.0


async def soak(url: str, pid: int | None, options: argparse.Namespace) -> Report:
    """Load the server at ``url`` and watch what its process ``pid`` holds, if that is known.

    It ends by itself, because every request has a time limit.

    Raises:
        RuntimeError: if the server refuses a good picture before there is any load.
        aiohttp.ClientError, OSError: if the server cannot be reached before there is any load.
    """
    mix = Mix(options.seed, options.timeout_ms)
    report = Report(options.rate, LATE_S * options.patience)
    async with open_session(url) as session:
        sender = await Sender.of(session, mix, MISSING_S * options.patience)
        # One at a time, so that a refusal can only be due to the request itself.
        report.add_wrong([await sender.send(mix.make(kind)) for kind in BAD])
        # All at once, so that the server starts all its threads before they are counted.
        singles = [mix.single(index) for index in range(len(mix.pool))]
        report.add_wrong(await asyncio.gather(*map(sender.send, singles)))
        if options.overload:
            report.capacity, outcomes = await closed_loop(
                sender.send,
                lambda: mix.draw(WORK),
                CAPACITY_CLIENTS,
                min(CAPACITY_S, options.seconds / 2),
                options.max_requests,
            )
            report.add_wrong(outcomes)
            work = sum(KINDS[kind] for kind in WORK) / sum(KINDS.values())
            report.rate = max(options.overload * report.capacity / work, 1)
        rest_s = REST_S * options.patience
        before = await _at_rest(pid, None, rest_s)
        arrivals = poisson(report.rate, options.seconds, options.max_requests, options.seed)
        report.sent = len(arrivals)
        # Drawn anew, so that the load does not depend on what was sent before.
        load = Mix(options.seed, options.timeout_ms)
        snapshots: list[Snapshot] = []
        watcher = asyncio.create_task(watch(session, pid, snapshots))
        try:
            report.add_outcomes(await open_loop(sender.send, load.draw, arrivals))
        finally:
            watcher.cancel()
        report.add_snapshots(snapshots)
        after = await _at_rest(pid, before, rest_s)
        if before and after:
            report.add_usage(before, after)
        elif pid is not None:
            report.failures.append(f"process {pid} has ended")
        report.failures += await _aftermath(session, sender, mix)
    return report


async def _at_rest(pid: int | None, before: Usage | None, rest_s: float) -> Usage | None:
    """What the process holds once the idle connections are closed; None if it has ended.

    It gets up to ``rest_s`` to hold no more descriptors than ``before``.
    """
    if pid is None:
        return None
    end = time.monotonic() + rest_s
    await asyncio.sleep(2 * KEEP_ALIVE_S)
    try:
        now = usage(pid)
        while before and now.file_descriptors > before.file_descriptors and time.monotonic() < end:
            await asyncio.sleep(0.5)
            now = usage(pid)
    except OSError:
        return None
    return now


async def _aftermath(session: aiohttp.ClientSession, sender: Sender, mix: Mix) -> list[str]:
    """What is not as it was before the load."""
    failures = []
    try:
        for path in ("/healthz", "/readyz", "/healthz?probe=true"):
            async with session.get(path) as answer:
                if answer.status != 200:
                    failures.append(f"{path} says {answer.status} after the load")
        outcome = await sender.send(mix.single(0))
        if outcome.status != 200 or outcome.wrong:
            failures.append(f"a good request after the load: {outcome.wrong or outcome.end}")
        samples = await scrape(session)
        for name in ("vimserve_inflight", "vimserve_queue_depth", "vimserve_queue_tokens"):
            left = sum(values(samples, name))
            if left:
                failures.append(f"{name} is {left:g} after the load")
    except (aiohttp.ClientError, OSError) as error:
        failures.append(f"the server cannot be reached after the load: {error!r}")
    return failures
