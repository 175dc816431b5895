"""Graceful shutdown: refuse new requests, give those in progress a bounded time."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from vimserve.server.errors import NotReady

# Seconds for the last answers, after their requests were cancelled.
FAREWELL_S = 1


class Drain:
    """Tracks the requests in progress.

    Args:
        timeout_s: seconds that they may take once the server stops.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._end: float | None = None
        self._over = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def stopping(self) -> bool:
        """Whether the server refuses new requests."""
        return self._end is not None

    @property
    def left_s(self) -> float:
        """Seconds left for the shutdown; before it begins, all of them."""
        return self._timeout_s if self._end is None else max(self._end - time.monotonic(), 0)

    def begin(self) -> None:
        """Refuse new requests; safe in a signal handler."""
        if self._end is None:
            self._end = time.monotonic() + self._timeout_s

    @contextmanager
    def request(self) -> Iterator[None]:
        """Track one request while the block runs, which must be in the request's own task.

        Raises:
            NotReady: if the server is stopping, or has waited long enough for this request.
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
                f"the server stopped; it waits at most {self._timeout_s:g} s for a request",
                limit=self._timeout_s,
                value="stopping",
            ) from None
        finally:
            self._tasks.discard(task)

    async def finish(self) -> None:
        """Wait for the requests in progress, then answer 503 to those that are left."""
        self.begin()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self.left_s)
        self._over = True
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=FAREWELL_S)
