"""Runs forward passes side by side on a CPU, each on a share of its cores.

A single pass leaves cores idle: at the end of every parallel region, which waits for a thread that
lost its core to a decoder or to the event loop, and between one pass and the next. A second pass
computes meanwhile.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from torch import Tensor

from vimserve.server.engine.promise import promise
from vimserve.server.engine.runner import Pass
from vimserve.server.telemetry.threads import name_thread

T = TypeVar("T")
Job = tuple[Callable[[], Any], int, Future[Any]]


class LanePass(Pass):
    """A forward pass that a lane runs."""

    def __init__(self, future: Future[Pass]) -> None:
        self.future = future

    @property
    def recorded_bytes(self) -> int:
        """No graph is recorded on a CPU."""
        return 0

    @property
    def done(self) -> bool:
        """Whether ``outputs`` returns at once."""
        return self.future.done()

    def wait(self) -> None:
        """Wait for the lane."""
        self.future.exception()

    def outputs(self) -> list[Tensor | None]:
        """As ``Pass.outputs``.

        Raises:
            Exception: that of the forward pass.
        """
        return self.future.result().outputs()


def wait_for_one(passes: Iterable[Pass]) -> None:
    """Wait until one of the passes that lanes run has ended."""
    futures = [one.future for one in passes if isinstance(one, LanePass)]
    wait(futures, return_when=FIRST_COMPLETED)


class Lane:
    """A thread that runs one job at a time, with OpenMP threads of its own.

    Args:
        tell: called in it after each job.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # It must not keep the process: a pass that hangs never ends.
        threading.Thread(target=self._run, name="engine-lane", daemon=True).start()

    def start(self, run: Callable[[], Any], threads: int) -> Future[Any]:
        """Begin a job on so many CPU threads; what ``run`` will return."""
        future: Future[Any] = promise()
        self._jobs.put((run, threads, future))
        return future

    def close(self) -> None:
        """End the thread, and its OpenMP threads with it, after the job that it runs."""
        self._jobs.put(None)

    def _run(self) -> None:
        name_thread("model")
        while (job := self._jobs.get()) is not None:
            run, threads, future = job
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
            try:
                future.set_result(run())
            except Exception as error:
                future.set_exception(error)
            self._tell()
            del job, run, future  # or its tensors would live until the next pass


class Lanes:
    """Runs passes side by side, two at most.

    OpenMP (libgomp) lets waiting threads spin only while a process has no more of them than it has
    CPUs. With two lanes of two threads each on two CPUs a DeiT took 26 ms instead of 20. So what
    has all threads runs in the first lane, and a second lane with OpenMP threads ends before that.

    Args:
        threads: CPU threads of all passes together.
        tell: called in a lane's thread after each pass.
    """

    def __init__(self, threads: int, tell: Callable[[], None]) -> None:
        self._threads = threads
        self._tell = tell
        self._first = Lane(tell)
        self._second: Lane | None = None
        self._in_first: Future[Any] | None = None

    def start(self, run: Callable[[], Pass], beside: int) -> LanePass:
        """Begin a pass.

        Args:
            run: makes the pass, and returns when it has ended.
            beside: how many passes run already, 0 or 1; this one gets a fair share of the threads.
        """
        if not beside:
            self._have_all_threads()
        threads = max(1, self._threads // (beside + 1))
        if self._in_first is None or self._in_first.done():
            self._in_first = self._first.start(run, threads)
            return LanePass(self._in_first)
        self._second = self._second or Lane(self._tell)
        return LanePass(self._second.start(run, threads))

    def call(self, function: Callable[[], T]) -> T:
        """Run a function with all threads, while no pass runs, and wait for it."""
        self._have_all_threads()
        return self._first.start(function, self._threads).result()

    def close(self) -> None:
        """End the lanes, each after the pass that it runs."""
        self._first.close()
        if self._second is not None:
            self._second.close()

    def _have_all_threads(self) -> None:
        if self._second is not None and self._threads // 2 > 1:
            self._second.close()
            self._second = None
