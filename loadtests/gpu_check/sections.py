"""What a run is made of: stages of sections, each of jobs, each of which makes rows.

A section runs in a process of its own, which ``supervise`` watches. An exception ends its job
alone, unless it broke the device for its whole process, as an illegal memory access does.
"""

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

Row = dict[str, Any]
TRACEBACK_CHARACTERS = 1500


@dataclass(frozen=True)
class Clock:
    """How much time a job has.

    Attributes:
        end: when its section is to be over, on ``time.monotonic``.
        jobs: of the section that are left, this one included.
    """

    end: float
    jobs: int = 1
    begin: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until the section is to be over."""
        return self.end - time.monotonic()

    @property
    def fair(self) -> float:
        """Seconds that this job has left if all the jobs that are left get equal times."""
        return (self.end - self.begin) / self.jobs - (time.monotonic() - self.begin)


@dataclass(frozen=True)
class Job:
    """A part of a section.

    Attributes:
        name: unique in its section.
        rows: makes the rows.
        uses: what the rows depend on: each is in ``Gate.of`` of the gates that vouch for it.
    """

    name: str
    rows: Callable[[Clock], Iterable[Row]]
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Jobs that run one after another; ``jobs`` is called in the section's own process."""

    name: str
    jobs: Callable[[], Iterable[Job]]


@dataclass(frozen=True)
class Stage:
    """Sections that run side by side.

    Attributes:
        share: of the time that all stages from here on have, in proportion to their shares.
        sections: what runs.
    """

    share: float
    sections: tuple[Section, ...]


def work(section: Section, first: int, end: float, send: Callable[[str, Any], None]) -> None:
    """Run a section's jobs from number ``first`` on, and tell the supervisor of each step.

    ``send`` takes the kind of a message and its content: ``begin`` (number and name of a job),
    ``row``, ``left_out`` (names of the jobs that there is no time for), ``broken`` (this process
    can no longer use the device) and ``done``.
    """
    try:
        jobs = list(section.jobs())
    except Exception as error:
        send("row", {"job": section.name, "error": last_lines(error)})
        send("done", None)
        return
    for number, job in enumerate(jobs[first:], first):
        now = time.monotonic()
        if now >= end:
            send("left_out", [job.name for job in jobs[number:]])
            break
        send("begin", (number, job.name))
        try:
            for row in job.rows(Clock(end, len(jobs) - number, now)):
                send("row", {"job": job.name, "uses": job.uses, **row})
        except Exception as error:
            send("row", {"job": job.name, "uses": job.uses, "error": last_lines(error)})
            error.__traceback__ = None  # its frames hold tensors
        if is_broken():
            send("broken", None)
            return
        gc.collect()
        torch.cuda.empty_cache()
    send("done", None)


def is_broken() -> bool:
    """Whether this process can no longer use the device.

    An error that is not of one call alone is reported again by everything that follows.
    """
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def last_lines(error: BaseException) -> str:
    """The end of an exception's traceback."""
    with contextlib.suppress(Exception):
        return "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return type(error).__name__
