"""The soak itself: references, capacity, the load, and what is left after it."""

import argparse
import asyncio
import time

import aiohttp

from vimserve.loadtests.common.client import KEEP_ALIVE_S, session
from vimserve.loadtests.common.mix import BAD, KINDS, WORK, Mix
from vimserve.loadtests.common.process import Usage, usage
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.soak.loops import closed_loop, open_loop, poisson
from vimserve.loadtests.soak.report import Report
from vimserve.loadtests.soak.watch import Sample, scrape, values, watch

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
