"""Where jobs are kept: in memory, bounded in number and bytes, and for a limited time."""

import re
import reprlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vimserve.server.engine.retry import retry_after
from vimserve.server.errors import BodyTooLarge
from vimserve.server.http.jobs.errors import JobsFull, UnknownJob

_ID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{32}")


class Kept(Protocol):
    """What the store reads of a job."""

    @property
    def id(self) -> str: ...  # noqa: D102


J = TypeVar("J", bound=Kept)


@dataclass
class _Place(Generic[J]):
    job: J
    held_bytes: int
    replaceable: bool = False


class Store(Generic[J]):
    """Jobs by id. It never holds more than it may; what has ended is forgotten after a while.

    It has no timer: whoever uses it calls ``expire``, at ``next_expiry`` at the latest.

    Args:
        max_jobs: most jobs at a time, ended ones included.
        max_bytes: most bytes of uploads and results together.
        keep_s: seconds for which a job is kept after its end.
        clock: tells the seconds.

    Attributes:
        held_bytes: bytes of uploads and results.
        mark: what all its ids begin with; it tells this start of the server from others, whose jobs
            are lost.
    """

    def __init__(
        self,
        max_jobs: int,
        max_bytes: int,
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held_bytes = 0
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._keep_s = keep_s
        self._clock = clock
        self.mark = secrets.token_hex(4)
        self._places: dict[str, _Place[J]] = {}
        # When each ended job expires, the earliest first.
        self._expiries: OrderedDict[str, float] = OrderedDict()

    def __iter__(self) -> Iterator[J]:
        return (place.job for place in self._places.values())

    def __len__(self) -> int:
        return len(self._places)

    def new_id(self) -> str:
        """An id that nobody can guess."""
        return f"{self.mark}-{secrets.token_hex(16)}"

    @property
    def next_expiry(self) -> float | None:
        """When the next job expires, on the store's clock; None if none has ended."""
        return next(iter(self._expiries.values()), None)

    def add(self, job: J, num_bytes: int) -> None:
        """Keep a job, whose upload has so many bytes; a replaceable one may have to go.

        Raises:
            JobsFull: there is no room.
            BodyTooLarge: there will never be room.
        """
        self._check_bytes(num_bytes, self.held_bytes + num_bytes)
        if len(self) >= self._max_jobs:
            gone = (name for name in self._expiries if self._places[name].replaceable)
            if (name := next(gone, None)) is None:
                raise JobsFull(
                    f"the server holds {len(self)} jobs, ended ones included, which is its limit; "
                    "delete those whose results you have",
                    limit=self._max_jobs,
                    value=len(self) + 1,
                    retry_after_s=self._retry_after(),
                )
            self.remove(self._places[name].job)
        self._places[job.id] = _Place(job, num_bytes)
        self.held_bytes += num_bytes

    def get(self, name: str) -> J:
        """The job of that id.

        Raises:
            UnknownJob: there is none; the error says why.
        """
        if place := self._places.get(name):
            return place.job
        found = _ID.fullmatch(name)
        if found is None:
            reason = f"there is no job {reprlib.repr(name)}; the Location of a new job has its id"
        elif found[1] != self.mark:
            reason = (
                f"job {name} is of an earlier start of the server, or of another one; jobs are "
                "lost when it restarts: post it again"
            )
        else:
            reason = (
                f"job {name} has expired or was deleted; jobs are kept for {self._keep_s:g} s "
                "after their end"
            )
        raise UnknownJob(reason, value=reprlib.repr(name) if found is None else name)

    def resize(self, job: J, num_bytes: int) -> None:
        """Hold so many bytes for a job from now on.

        Raises:
            JobsFull: there is no room for them, so it holds as many as before.
            BodyTooLarge: there will never be room for them.
        """
        place = self._places[job.id]
        total = self.held_bytes - place.held_bytes + num_bytes
        self._check_bytes(num_bytes, total)
        place.held_bytes, self.held_bytes = num_bytes, total

    def end(self, job: J, *, replaceable: bool = False) -> None:
        """Forget a job when its time is over, or before that for a new one if it's replaceable."""
        self._places[job.id].replaceable = replaceable
        self._expiries[job.id] = self._clock() + self._keep_s

    def remove(self, job: J) -> None:
        """Forget a job now; that it is not kept any more is no error."""
        if place := self._places.pop(job.id, None):
            self.held_bytes -= place.held_bytes
            self._expiries.pop(job.id, None)

    def expire(self) -> None:
        """Forget the jobs whose time is over."""
        now = self._clock()
        while self._expiries:
            name, expiry = next(iter(self._expiries.items()))
            if expiry > now:
                return
            self.remove(self._places[name].job)

    def _check_bytes(self, num_bytes: int, total: int) -> None:
        if num_bytes > self._max_bytes:
            raise BodyTooLarge(
                f"{num_bytes} bytes are more than the {self._max_bytes} that all jobs may hold",
                limit=self._max_bytes,
                value=num_bytes,
            )
        if total > self._max_bytes:
            raise JobsFull(
                f"with this one the jobs would hold {total} bytes of uploads and results; the "
                f"limit is {self._max_bytes}, so delete those whose results you have",
                limit=self._max_bytes,
                value=total,
                retry_after_s=self._retry_after(),
            )

    def _retry_after(self) -> int | None:
        expiry = self.next_expiry
        return None if expiry is None else retry_after(expiry - self._clock())
