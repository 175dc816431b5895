"""The threads that decode images, within a budget of memory; small images never wait for large."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.cost import Cost
from vimserve.server.telemetry.threads import name_thread

NICENESS = 10
# A small image takes at most this much memory, and all of them at most a quarter of the budget.
SMALL_BYTES, SMALL_SHARE = 48 * 2**20, 4

T = TypeVar("T")


class Decoders:
    """Runs jobs on images in threads. Its methods belong to the event loop's thread.

    There is a thread more than may decode large images at a time, and memory that only small ones
    may take, because a thread cannot be stopped: a small image is decoded at once whatever the
    large ones do.

    Args:
        threads: how many large images are decoded at a time.
        max_bytes: memory that all images together may take while they are decoded.
    """

    def __init__(self, threads: int, max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads + 1, "decode", _begin)
        self._small_bytes = min(SMALL_BYTES, max_bytes // SMALL_SHARE // (threads + 1))
        self._most_bytes = max_bytes - self._small_bytes * (threads + 1)
        self._free_threads = threads
        self._free_bytes = self._most_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def check(self, cost: Cost) -> None:
        """Refuse a job for which there will never be room.

        Raises:
            ImageTooLarge: it takes more memory than there is for one.
        """
        if cost.num_bytes > self._most_bytes:
            raise ImageTooLarge(
                f"the image would take {cost.num_bytes} bytes of memory while it is decoded, more "
                f"than the {self._most_bytes} that --max-decode-bytes leaves for one; make it "
                "smaller",
                limit=self._most_bytes,
                value=cost.num_bytes,
            )

    async def run(self, job: Callable[[], T], cost: Cost) -> T:
        """Run a job once there is room for it; large ones are admitted in their order.

        Raises:
            ImageTooLarge: there will never be room for it.
        """
        if cost.quick and cost.num_bytes <= self._small_bytes:
            return await asyncio.wrap_future(self._pool.submit(job))
        self.check(cost)
        await self._admit(cost.num_bytes)
        try:
            running = self._pool.submit(job)
        except BaseException:
            self._release(cost.num_bytes)
            raise
        # Whoever waits for it may go; the thread and the memory are taken until it ends.
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: self._ended(loop, cost.num_bytes))
        return await asyncio.wrap_future(running)

    async def _admit(self, num_bytes: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((num_bytes, turn))
        self._start_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._start_next()
            else:  # it was its turn in the same moment
                self._release(num_bytes)
            raise

    def _start_next(self) -> None:
        while self._waiting:
            num_bytes, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._free_threads or num_bytes > self._free_bytes:
                    return
                self._free_threads -= 1
                self._free_bytes -= num_bytes
                turn.set_result(None)
            self._waiting.popleft()

    def _release(self, num_bytes: int) -> None:
        self._free_threads += 1
        self._free_bytes += num_bytes
        self._start_next()

    def _ended(self, loop: asyncio.AbstractEventLoop, num_bytes: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._release, num_bytes)


def _begin() -> None:
    """Name this thread, and give it a lower priority than the threads that run a model on the CPU.

    These wait for one another many times in a forward pass, so a delay of one delays all. A
    decoder can be slower: it has the time of a forward pass to decode the next images.
    """
    name_thread("decode")
    with suppress(OSError, AttributeError):  # only Linux has a priority per thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
