"""The end of the server: nothing new, and a bounded time for what is under way."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from vimserve.server.errors import NotReady

# For the last answers, once their requests were cut short.
FAREWELL_S = 1


class Drain:
    """Knows the requests that are under way.

    Args:
        timeout_s: how long they may take once the server stops.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._end: float | None = None
        self._over = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def stopping(self) -> bool:
        """Whether the server takes no new requests."""
        return self._end is not None

    @property
    def left_s(self) -> float:
        """What is left of the time to stop in."""
        return self._timeout_s if self._end is None else max(self._end - time.monotonic(), 0)

    def begin(self) -> None:
        """Take no new requests; safe in a signal handler."""
        if self._end is None:
            self._end = time.monotonic() + self._timeout_s

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the whole work on one request, in its own task.

        Raises:
            NotReady: when the server stops, or when it has waited long enough for this request.
        """
        if self.stopping:
            raise NotReady("the server is stopping", limit="ready", value="stopping")
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._over:
                raise
            raise NotReady(
                f"the server stopped, and waited no longer than {self._timeout_s:g} s",
                limit=self._timeout_s,
                value="stopping",
            ) from None
        finally:
            self._tasks.discard(task)

    async def finish(self) -> None:
        """Wait for the requests that are under way, then end those that are left with 503."""
        self.begin()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self.left_s)
        self._over = True
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=FAREWELL_S)
