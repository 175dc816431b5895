"""Runs sections in processes of their own, so that none outlasts its time or takes others along.

The processes are forked: they need not import PyTorch again, which takes longer than a device
takes to start. So the process that forks must never use the device itself.
"""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from vimserve.loadtests.gpu_check.report import Report
from vimserve.loadtests.gpu_check.sections import Section, Stage, work

GRACE = 0.03  # of the whole time, for what a section has begun when its time is over
LEAST_GRACE_S, MOST_GRACE_S = 2.0, 15.0
MOST_STARTS = 4  # of one section, each after the device broke


def run_stages(stages: Sequence[Stage], seconds: float, report: Report) -> None:
    """Run the stages one after another, in ``seconds`` altogether.

    What a stage leaves of its time goes to those after it.
    """
    end = time.monotonic() + seconds
    grace = min(max(LEAST_GRACE_S, GRACE * seconds), MOST_GRACE_S)
    for number, stage in enumerate(stages):
        now = time.monotonic()
        shares = sum(later.share for later in stages[number:])
        stage_end = now + max(0.0, end - grace - now) * stage.share / shares
        run_side_by_side(stage.sections, stage_end, grace, report)


def run_side_by_side(sections: Iterable[Section], end: float, grace: float, report: Report) -> None:
    """Run sections at the same time, each in a process of its own.

    Args:
        sections: what to run.
        end: when they may begin no further job, on ``time.monotonic``.
        grace: seconds after ``end`` until their processes are killed.
        report: takes their rows.
    """
    running = [_Running(section, end, report) for section in sections]
    try:
        while alive := [section for section in running if section.process]:
            left = end + grace - time.monotonic()
            if left <= 0:
                for section in alive:
                    section.kill(f"killed {grace:.0f} s after its time")
                break
            ready = wait([section.pipe for section in alive], timeout=left)
            for section in alive:
                if section.pipe in ready:
                    section.read()
    finally:
        for section in running:
            section.kill("interrupted")


@dataclass
class _Running:
    """A section whose process runs."""

    section: Section
    end: float
    report: Report
    process: BaseProcess | None = None
    starts: int = 0
    job: tuple[int, str] = (-1, "")
    began: float = field(default_factory=time.monotonic)

    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        self._start(0)

    def read(self) -> None:
        """Take one message, or notice that the process has ended."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self._crashed()
            return
        name = self.section.name
        if kind == "begin":
            self.job = content
        elif kind == "row":
            self.report.add(name, content)
        elif kind == "left_out":
            self.report.leave_out(name, content)
        elif kind == "broken":
            self._stop()
            self._start_again("the device is broken for this process")
        elif kind == "done":
            self._end("done")

    def kill(self, why: str) -> None:
        """Kill the process if there is one, and say why in the report."""
        if self.process is None:
            return
        self.report.add(self.section.name, {"job": self.job[1], "error": why})
        self._end("cut")

    def _start(self, first: int) -> None:
        self.starts += 1
        fork = multiprocessing.get_context("fork")
        self.pipe, theirs = fork.Pipe(duplex=False)
        self.process = fork.Process(target=_child, args=(self.section, first, self.end, theirs))
        with warnings.catch_warnings():
            # Libraries have started threads that hold no lock of ours; the device is not in use.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def _crashed(self) -> None:
        assert self.process is not None  # noqa: S101
        self.process.join()
        status = self.process.exitcode
        self._stop()
        self.report.add(
            self.section.name, {"job": self.job[1], "error": f"its process ended with {status}"}
        )
        self._start_again(f"the process ended with {status}")

    def _start_again(self, why: str) -> None:
        if self.starts < MOST_STARTS and time.monotonic() < self.end:
            self.report.say(f"{self.section.name}: {why}: goes on in another one")
            self._start(self.job[0] + 1)
        else:
            self._end("broken")

    def _end(self, state: str) -> None:
        self._stop()
        self.report.finish(self.section.name, state, time.monotonic() - self.began)

    def _stop(self) -> None:
        if self.process is not None:
            self.process.join(timeout=0.5)
            assert self.process.pid  # noqa: S101
            with suppress(ProcessLookupError):  # what it has started ends as well
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _child(section: Section, first: int, end: float, pipe: Connection) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)

    def send(kind: str, content: Any) -> None:
        pipe.send((kind, content))

    with suppress(BrokenPipeError):  # the supervisor is gone
        work(section, first, end, send)
    pipe.close()
    os._exit(0)  # whatever the libraries would still do, the device is not needed any more
