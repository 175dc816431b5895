"""Do to a server what must not harm it, and print what came back and what survived.

``python -m vimserve.loadtests.faults -- --model demo`` starts a server of its own; everything after
``--`` is a flag of ``vimserve serve``. No request can make the model raise an exception or run out
of memory: tests/server/engine does both.
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
from prometheus_client.samples import Sample

from vimserve.loadtests.common.checks import Outcome
from vimserve.loadtests.common.client import open_session, scrape, values
from vimserve.loadtests.common.mix import Mix, Request
from vimserve.loadtests.common.options import add_patience
from vimserve.loadtests.common.process import usage
from vimserve.loadtests.common.sender import Sender
from vimserve.loadtests.common.server import ServerProcess, serving

HANGING_UP = 1000
LORIS_CONNECTIONS, LORIS_EVERY_S, LORIS_LIMIT_S = 200, 0.5, 30.0
UNDER_WAY = 40
REST_S = 20.0
# Long enough for no request to be refused only because the machine is slow.
TIMEOUT_MS = 600_000
UNTIL_THEY_LEAVE_S = 0.5
MISSING_S = 10.0
REQUESTS = "vimserve_requests_total"


@dataclass(frozen=True)
class Row:
    """One fault in words: what was sent, what came back, whether the server survived.

    ``failures`` says what should have been otherwise.
    """

    sent: str
    came_back: str
    survived: str
    failures: tuple[str, ...] = ()


class Faults:
    """Does one fault after another to a server.

    Args:
        server: its process.
        session: of the same server.
        sender: over that session.
        mix: the sender's.
        patience: by which all time limits are multiplied.
    """

    def __init__(
        self,
        server: ServerProcess,
        session: aiohttp.ClientSession,
        sender: Sender,
        mix: Mix,
        patience: float,
    ) -> None:
        self._server = server
        self._address = urlsplit(server.url)
        self._session = session
        self._sender = sender
        self._mix = mix
        self._rest_s = REST_S * patience
        self._loris_s = LORIS_LIMIT_S * patience

    async def bad_image(self, kind: str, sent: str) -> Row:
        """Send an image that is to be refused for its size."""
        before = usage(self._server.pid).resident_bytes
        outcome = await self._sender.send(self._mix.make(kind))
        more = (usage(self._server.pid).resident_bytes - before) / 1e6
        came_back = f"{outcome.end} after {outcome.latency_s * 1e3:.0f} ms, {more:+.1f} MB"
        return await self._row(sent, came_back, [outcome])

    async def hang_up(self) -> Row:
        """Let many clients send an image and hang up together, without waiting for the answer."""
        before = await scrape(self._session)
        picture = self._mix.pool[self._mix.small[-1]]
        head = (
            f"POST /v1/classify?{picture.query} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"X-Request-Timeout-Ms: {TIMEOUT_MS}\r\nContent-Length: {len(picture.data)}\r\n\r\n"
        )
        clients = await asyncio.gather(*(self._connect() for _ in range(HANGING_UP)))
        for _, writer in clients:
            writer.write(head.encode() + picture.data)
        await asyncio.gather(*(writer.drain() for _, writer in clients))
        await asyncio.sleep(UNTIL_THEY_LEAVE_S)
        for _, writer in clients:
            writer.close()
        rest_s = await self._rest(before)
        after = await scrape(self._session)

        def more(name: str, **labels: str) -> int:
            return round(sum(values(after, name, **labels)) - sum(values(before, name, **labels)))

        ends = {status: more(REQUESTS, status=status) for status in ("200", "429", "499")}
        failures = []
        if rest_s is None:
            failures.append(f"requests are still under way {self._rest_s:g} s later")
        if sum(ends.values()) != HANGING_UP:
            failures.append(f"they ended otherwise than as {ends}")
        came_back = (
            f"{ends['499']} dropped, {ends['200']} answered, {ends['429']} refused as too many; "
            f"the device ran {more('vimserve_batch_images_sum')} images; "
            f"nothing under way {self._rest_s if rest_s is None else rest_s:.1f} s later"
        )
        sent = f"{HANGING_UP} clients that hang up {UNTIL_THEY_LEAVE_S:g} s after their images"
        return await self._row(sent, came_back, [], failures)

    async def slow_loris(self) -> Row:
        """Let many clients send the head of a request so slowly that it never ends."""
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
            failures.append(f"only {len(ended)} connections were ended in {self._loris_s:g} s")
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
        """Send the signal that ends the server while requests are under way."""
        before = await self._arrived()
        work = [asyncio.create_task(self._sender.send(self._good())) for _ in range(UNDER_WAY)]
        while await self._arrived() < before + UNDER_WAY and not all(t.done() for t in work):
            await asyncio.sleep(0.01)
        answered_before = sum(task.done() for task in work)
        start = time.monotonic()
        self._server.terminate()
        outcomes = await asyncio.gather(*work)
        status = await asyncio.to_thread(self._server.stop)
        seconds = time.monotonic() - start
        answered = sum(outcome.status == 200 for outcome in outcomes)
        failures = [f"{o.wrong or o.end}" for o in outcomes if o.status != 200 or o.wrong]
        if status != 0:
            failures.append(f"exit status {status}")
        return Row(
            f"SIGTERM with {UNDER_WAY - answered_before} requests under way",
            f"{answered} of {UNDER_WAY} answered",
            f"ended {seconds:.2f} s later with status {status}",
            tuple(failures),
        )

    async def _arrived(self) -> float:
        """How many requests the server has answered or is answering."""
        samples = await scrape(self._session)
        return sum(values(samples, REQUESTS)) + sum(values(samples, "vimserve_inflight"))

    def _good(self) -> Request:
        return self._mix.single(self._mix.small[-1])

    async def _row(
        self, sent: str, came_back: str, outcomes: Sequence[Outcome], failures: Sequence[str] = ()
    ) -> Row:
        after = await self._sender.send(self._good())
        async with self._session.get("/healthz?probe=true") as answer:
            health = answer.status
        wrong = [outcome.wrong for outcome in (*outcomes, after) if outcome.wrong]
        if health != 200:
            wrong.append(f"/healthz says {health}")
        survived = f"/healthz {health}, a good request {after.status} in {after.latency_s:.2f} s"
        return Row(sent, came_back, survived, (*failures, *wrong))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    async def _rest(self, before: Sequence[Sample]) -> float | None:
        """Seconds until all requests that were hung up have ended; None if too many pass."""
        wanted = sum(values(before, REQUESTS)) + HANGING_UP
        start = time.monotonic()
        while (seconds := time.monotonic() - start) < self._rest_s:
            now = await scrape(self._session)
            if sum(values(now, REQUESTS)) >= wanted and not sum(values(now, "vimserve_inflight")):
                return seconds
            await asyncio.sleep(0.05)
        return None

    async def _loris(self, start: float, ended: list[float]) -> None:
        reader, writer = await self._connect()
        writer.write(b"POST /v1/classify HTTP/1.1\r\nX-Slow: ")
        end = asyncio.create_task(reader.read())
        while not end.done() and time.monotonic() - start < self._loris_s:
            writer.write(b"a")
            await asyncio.wait([end], timeout=LORIS_EVERY_S)
        if end.done():
            end.exception()
            ended.append(time.monotonic() - start)
        end.cancel()
        writer.close()


async def run(server: ServerProcess, patience: float = 1.0) -> list[Row]:
    """Do every fault to ``server``, the last of which ends it.

    Raises:
        RuntimeError: if the server refuses a good request to begin with.
    """
    mix = Mix(0, TIMEOUT_MS)
    async with open_session(server.url) as session:
        sender = await Sender.of(session, mix, MISSING_S * patience)
        faults = Faults(server, session, sender, mix, patience)
        return [
            await faults.bad_image("bomb", "a PNG of 200 megapixels"),
            await faults.bad_image("strip", "a PNG of 1 x 1,000,000 pixels"),
            await faults.hang_up(),
            await faults.slow_loris(),
            await faults.terminate(),
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do every fault and print the table.

    Returns:
        0, or 1 if the server did anything but what it should.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vimserve.loadtests.faults", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    add_patience(parser)
    parser.add_argument("flags", nargs="*", help="after --: flags of vimserve serve")
    options = parser.parse_args(arguments)
    try:
        with serving(options.flags) as server:
            rows = asyncio.run(run(server, options.patience))
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
