"""Runs forward passes side by side on a CPU, each on a share of its cores.

A single pass leaves cores idle: at the end of every parallel region, which waits for a thread that
lost its core to a decoder or to the event loop, and between one pass and the next. A second pass
computes meanwhile.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue

import torch
from torch import Tensor

from vimserve.server.engine.promise import promise
from vimserve.server.engine.runner import Pass
from vimserve.server.telemetry.threads import name_thread

Job = tuple[Callable[[], Pass], int, Future[Pass], threading.Event]


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


class Lanes:
    """Threads that each run one forward pass at a time, with OpenMP threads of their own.

    Args:
        lanes: how many.
        threads: CPU threads of all passes together.
        tell: called in the lane's thread after each pass.
    """

    def __init__(self, lanes: int, threads: int, tell: Callable[[], None]) -> None:
        self._threads = threads
        self._tell = tell
        self._lanes = lanes
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        for _ in range(lanes):
            # It must not keep the process: a pass that hangs never ends.
            threading.Thread(target=self._run, name="engine-lane", daemon=True).start()

    def start(self, run: Callable[[], Pass], beside: int) -> tuple[LanePass, threading.Event]:
        """Begin a pass.

        Args:
            run: makes the pass, and returns when it has ended.
            beside: how many passes run already; this one gets a fair share of the threads.

        Returns:
            The pass, and an event that is set when it has ended, or failed.
        """
        future: Future[Pass] = promise()
        ended = threading.Event()
        self._jobs.put((run, max(1, self._threads // (beside + 1)), future, ended))
        return LanePass(future), ended

    def close(self) -> None:
        """End the threads, each after the pass that it runs."""
        for _ in range(self._lanes):
            self._jobs.put(None)

    def _run(self) -> None:
        name_thread("model")
        while (job := self._jobs.get()) is not None:
            run, threads, future, ended = job
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
            try:
                result = run()
            except Exception as error:
                ended.set()
                future.set_exception(error)
            else:
                ended.set()  # first, for whoever waits for the future asks for this next
                future.set_result(result)
            self._tell()
            del job, run, future  # or its tensors would live until the next pass
