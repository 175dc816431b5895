"""Which of the servers is asked next, and when none is asked any more."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from vimserve.server.scenes.remote.server import Server
from vimserve.server.scenes.remote.trouble import Refused

# How often in a row a server gives no answer before it counts as lost: for some two minutes.
TRIES = 10


class Pool:
    """The servers, each of which has a bounded number of requests at a time.

    Args:
        servers: all of them.
        in_flight: most requests that one has at a time. One that gave no answer has a single one
            until it does.
    """

    def __init__(self, servers: Sequence[Server], in_flight: int) -> None:
        self._servers = servers
        self._in_flight = in_flight
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Server]:
        """Wait for a server that has room: of several, the one with the fewest requests.

        Raises:
            Refused: all are lost.
        """
        server = await self._next()
        server.in_flight += 1
        try:
            yield server
        finally:
            server.in_flight -= 1
            self._changed.set()  # wakes all that wait now, and nobody later
            self._changed.clear()

    async def _next(self) -> Server:
        while True:
            if all(server.tries >= TRIES for server in self._servers):
                reasons = "; ".join(f"{server.url}: {server.reason}" for server in self._servers)
                raise Refused(f"no server answers any more, tried {TRIES} times: {reasons}")
            now = asyncio.get_running_loop().time()
            free = [server for server in self._servers if self._has_room(server, now)]
            if free:
                return min(free, key=lambda server: server.in_flight)
            ends = [server.free_at for server in self._servers if server.free_at > now]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(ends, default=None)):
                    await self._changed.wait()

    def _has_room(self, server: Server, now: float) -> bool:
        return server.free_at <= now and server.in_flight < (1 if server.tries else self._in_flight)
