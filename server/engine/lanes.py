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

from torch import Tensor

from vimserve.kernels.thread_limit import ThreadLimit
from vimserve.model.threads import limited_threads
from vimserve.server.engine.promise import promise
from vimserve.server.engine.runner import Pass
from vimserve.server.telemetry.threads import name_thread

T = TypeVar("T")
Job = tuple[Callable[[], Any], ThreadLimit, Future[Any]]


class LanePass(Pass):
    """A forward pass that a lane runs.

    Attributes:
        future: of the pass, when it has ended.
    """

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

    Attributes:
        most: the most threads that it has had.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.most = 1
        self._limit = ThreadLimit(1)
        self._tell = tell
        self._latest: Future[Any] | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # It must not keep the process: a pass that hangs never ends.
        threading.Thread(target=self._run, name="engine-lane", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether its latest job has ended."""
        return self._latest is None or self._latest.done()

    def start(self, run: Callable[[], Any], threads: int) -> Future[Any]:
        """Begin a job on so many CPU threads; what ``run`` will return."""
        future: Future[Any] = promise()
        self._limit, self._latest = ThreadLimit(threads), future
        self.most = max(self.most, threads)
        self._jobs.put((run, self._limit, future))
        return future

    def limit(self, threads: int) -> None:
        """Let the job have so many threads from now on."""
        self.most = max(self.most, threads)
        self._limit.threads = threads

    def close(self) -> None:
        """End the thread, and its OpenMP threads with it, after the job that it runs."""
        self._jobs.put(None)

    def _run(self) -> None:
        name_thread("model")
        while (job := self._jobs.get()) is not None:
            run, limit, future = job
            try:
                with limited_threads(limit):
                    future.set_result(run())
            except Exception as error:
                future.set_exception(error)
            self._tell()
            del job, run, future  # or its tensors would live until the next pass


class Lanes:
    """Runs passes side by side, two at most.

    They share the threads equally, and one that is left alone gets the other's while it runs.

    OpenMP (libgomp) lets waiting threads spin only while a process has no more of them than it has
    CPUs. With two lanes of two threads each on two CPUs a DeiT took 26 ms instead of 20. So before
    a pass gets all threads, the other lane ends, and with it its OpenMP threads.

    Args:
        threads: CPU threads of all passes together.
        tell: called in a lane's thread after each pass.
    """

    def __init__(self, threads: int, tell: Callable[[], None]) -> None:
        self._threads = threads
        self._tell = tell
        self._lanes = [Lane(tell)]

    def start(self, run: Callable[[], Pass]) -> LanePass:
        """Begin a pass beside those that run.

        Args:
            run: makes the pass, and returns when it has ended.
        """
        busy = [lane for lane in self._lanes if not lane.idle]
        if not busy:
            return LanePass(self._first_lane().start(run, self._threads))
        threads = max(1, self._threads // (len(busy) + 1))
        for lane in busy:
            lane.limit(threads)
        return LanePass(self._idle_lane().start(run, threads))

    def widen(self) -> None:
        """Let a pass that is left alone have all threads, for no other is about to begin."""
        busy = [lane for lane in self._lanes if not lane.idle]
        if len(busy) == 1:
            self._end_teams_but(busy[0])
            busy[0].limit(self._threads)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function with all threads, while no pass runs, and wait for it."""
        return self._first_lane().start(function, self._threads).result()

    def close(self) -> None:
        """End the lanes, each after the pass that it runs."""
        for lane in self._lanes:
            lane.close()

    def _idle_lane(self) -> Lane:
        for lane in self._lanes:
            if lane.idle:
                return lane
        self._lanes.append(Lane(self._tell))
        return self._lanes[-1]

    def _first_lane(self) -> Lane:
        """The one that has most OpenMP threads already, if all are idle."""
        first = max(self._lanes, key=lambda lane: lane.most)
        self._end_teams_but(first)
        return first

    def _end_teams_but(self, kept: Lane) -> None:
        for lane in self._lanes[:]:
            if lane is not kept and lane.most > 1:
                lane.close()
                self._lanes.remove(lane)
