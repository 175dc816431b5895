"""Do to a server what must not harm it, and print what came back and what survived.

``python -m vimserve.loadtests.faults -- --model demo`` starts a server of its own; everything after
``--`` are flags of ``vimserve serve``. An exception in the model and memory that runs out cannot be
had from outside: tests/server/engine does that.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.samples import Sample as Metric

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.client import session
from vimserve.loadtests.common.mix import Mix, Request
from vimserve.loadtests.common.process import usage
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.common.server import ServerProcess, serving
from vimserve.loadtests.soak.watch import scrape, values

HANGING_UP = 1000
LORIS_CONNECTIONS, LORIS_EVERY_S, LORIS_LIMIT_S = 200, 0.5, 30.0
UNDER_WAY = 40
REST_S = 20.0
UNTIL_THEY_LEAVE_S = 0.5
REQUESTS = "vimserve_requests_total"


@dataclass(frozen=True)
class Row:
    """One fault; ``failures`` are what should have been otherwise."""

    sent: str
    came_back: str
    survived: str
    failures: tuple[str, ...] = ()


class Faults:
    """One server, done ill.

    Args:
        connections: to it.
        sender: over them, with references.
    """

    def __init__(
        self, server: ServerProcess, connections: aiohttp.ClientSession, sender: Sender, mix: Mix
    ) -> None:
        self._server = server
        self._address = urlsplit(server.url)
        self._connections = connections
        self._sender = sender
        self._mix = mix

    async def bad_image(self, kind: str, sent: str) -> Row:
        """An image that is refused for its size."""
        before = usage(self._server.pid).resident_bytes
        outcome = await self._sender.send(self._mix.make(kind))
        more = (usage(self._server.pid).resident_bytes - before) / 1e6
        came_back = f"{outcome.end} after {outcome.latency_s * 1e3:.0f} ms, {more:+.1f} MB"
        return await self._row(sent, came_back, [outcome])

    async def hang_up(self) -> Row:
        """Many clients that send their images and leave at once."""
        before = await scrape(self._connections)
        picture = self._mix.pool[self._mix.small[-1]]
        head = (
            f"POST /v1/classify?{picture.query} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"Content-Length: {len(picture.data)}\r\n\r\n"
        )
        clients = await asyncio.gather(*(self._connect() for _ in range(HANGING_UP)))
        for _, writer in clients:
            writer.write(head.encode() + picture.data)
        await asyncio.gather(*(writer.drain() for _, writer in clients))
        await asyncio.sleep(UNTIL_THEY_LEAVE_S)
        for _, writer in clients:
            writer.close()
        rest_s = await self._rest(before)
        after = await scrape(self._connections)

        def more(name: str, **labels: str) -> int:
            return round(sum(values(after, name, **labels)) - sum(values(before, name, **labels)))

        ends = {status: more(REQUESTS, status=status) for status in ("200", "429", "499")}
        failures = []
        if rest_s is None:
            failures.append(f"requests are still under way {REST_S:g} s later")
        if sum(ends.values()) != HANGING_UP:
            failures.append(f"they ended otherwise than as {ends}")
        came_back = (
            f"{ends['499']} dropped, {ends['200']} answered, {ends['429']} refused as too many; "
            f"the device ran {more('vimserve_batch_images_sum')} images; "
            f"nothing under way {REST_S if rest_s is None else rest_s:.1f} s later"
        )
        sent = f"{HANGING_UP} clients that hang up {UNTIL_THEY_LEAVE_S:g} s after their images"
        return await self._row(sent, came_back, [], failures)

    async def slow_loris(self) -> Row:
        """Clients whose heads never end."""
        ended: list[float] = []
        start = time.monotonic()
        attack = [asyncio.create_task(self._loris(start, ended)) for _ in range(LORIS_CONNECTIONS)]
        meanwhile: list[Outcome] = []
        while not all(task.done() for task in attack):
            meanwhile.append(await self._sender.send(self._good()))
            await asyncio.sleep(0.1)
        await asyncio.gather(*attack)
        failures = []
        if len(ended) < LORIS_CONNECTIONS:
            failures.append(f"only {len(ended)} connections were ended in {LORIS_LIMIT_S:g} s")
        slowest = max(outcome.latency_s for outcome in meanwhile)
        good = sum(outcome.status == 200 for outcome in meanwhile)
        came_back = (
            f"{len(ended)} closed by the server, the last after {max(ended, default=0):.1f} s; "
            f"meanwhile {good} of {len(meanwhile)} good requests "
            f"answered, the slowest in {slowest * 1e3:.0f} ms"
        )
        sent = f"{LORIS_CONNECTIONS} connections, a byte of the head every {LORIS_EVERY_S:g} s"
        return await self._row(sent, came_back, meanwhile, failures)

    async def terminate(self) -> Row:
        """The signal that ends the server, while it has work."""
        begun = sum(values(await scrape(self._connections), REQUESTS))
        work = [asyncio.create_task(self._sender.send(self._good())) for _ in range(UNDER_WAY)]
        while sum(values(await scrape(self._connections), REQUESTS)) < begun + 1:
            await asyncio.sleep(0.01)
        answered_before = sum(task.done() for task in work)
        start = time.monotonic()
        self._server.terminate()
        outcomes = await asyncio.gather(*work)
        status = await asyncio.to_thread(self._server.stop)
        seconds = time.monotonic() - start
        answered = sum(outcome.status == 200 for outcome in outcomes)
        failures = [f"{o.fault or o.end}" for o in outcomes if o.status != 200 or o.fault]
        if status != 0:
            failures.append(f"exit status {status}")
        return Row(
            f"SIGTERM with {UNDER_WAY - answered_before} requests under way",
            f"{answered} of {UNDER_WAY} answered",
            f"ended {seconds:.2f} s later with status {status}",
            tuple(failures),
        )

    def _good(self) -> Request:
        return self._mix.single(self._mix.small[-1])

    async def _row(
        self, sent: str, came_back: str, outcomes: Sequence[Outcome], failures: Sequence[str] = ()
    ) -> Row:
        after = await self._sender.send(self._good())
        async with self._connections.get("/healthz?probe=true") as answer:
            health = answer.status
        faults = [outcome.fault for outcome in (*outcomes, after) if outcome.fault]
        if health != 200:
            faults.append(f"/healthz says {health}")
        survived = f"/healthz {health}, a good request {after.status} in {after.latency_s:.2f} s"
        return Row(sent, came_back, survived, (*failures, *faults))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    async def _rest(self, before: Sequence[Metric]) -> float | None:
        """Seconds until those that hang up have ended, None if that takes ``REST_S``."""
        wanted = sum(values(before, REQUESTS)) + HANGING_UP
        start = time.monotonic()
        while (seconds := time.monotonic() - start) < REST_S:
            now = await scrape(self._connections)
            if sum(values(now, REQUESTS)) >= wanted and not sum(values(now, "vimserve_inflight")):
                return seconds
            await asyncio.sleep(0.05)
        return None

    async def _loris(self, start: float, ended: list[float]) -> None:
        reader, writer = await self._connect()
        writer.write(b"POST /v1/classify HTTP/1.1\r\nX-Slow: ")
        end = asyncio.create_task(reader.read())
        while not end.done() and time.monotonic() - start < LORIS_LIMIT_S:
            writer.write(b"a")
            await asyncio.wait([end], timeout=LORIS_EVERY_S)
        if end.done():
            end.exception()
            ended.append(time.monotonic() - start)
        end.cancel()
        writer.close()


async def run(server: ServerProcess) -> list[Row]:
    """Do everything to ``server``, which has ended afterwards.

    Raises:
        RuntimeError: if it does not even answer good requests.
    """
    mix = Mix(0, timeout_ms=60_000)
    async with asyncio.timeout(300), session(server.url) as connections:
        sender = await Sender.of(connections, mix)
        faults = Faults(server, connections, sender, mix)
        return [
            await faults.bad_image("bomb", "a PNG of 200 megapixels"),
            await faults.bad_image("strip", "a PNG of 1 x 1,000,000 pixels"),
            await faults.hang_up(),
            await faults.slow_loris(),
            await faults.terminate(),
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table.

    Returns:
        0, or 1 if the server did anything but what it should.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.faults", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    parser.add_argument("flags", nargs="*", help="after --: flags of vimserve serve")
    options = parser.parse_args(arguments)
    try:
        with serving(options.flags) as server:
            rows = asyncio.run(run(server))
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        print(f"faults: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print("| sent | came back | survived |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.sent} | {row.came_back} | {row.survived} |")
    failures = [f"{row.sent}: {failure}" for row in rows for failure in row.failures]
    print(*(f"FAILED: {failure}" for failure in failures), sep="\n", end="")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
