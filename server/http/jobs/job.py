"""A request that is answered after its client has gone."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fastapi.responses import Response

from vimserve.server.engine.progress import Progress
from vimserve.server.telemetry import request_id


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Ending:
    """How a job has ended.

    Attributes:
        status: ``done``, ``failed`` or ``cancelled``.
        answer: what a client that had waited would have got; None if the job was cancelled.
        error: the problem, if it failed.
    """

    status: Status
    answer: Response | None = None
    error: dict[str, Any] | None = None

    @property
    def result_bytes(self) -> int:
        """Bytes of the result; a problem is too small to count."""
        return 0 if self.answer is None or self.error else len(self.answer.body)


@dataclass(eq=False)
class Job:
    """A job.

    Attributes:
        id: what its client calls it; who knows it may read and delete the job.
        task: name of the task.
        model: name of the model.
        request_id: of the request that posted it.
        created_at: when it was posted.
        progress: how far it has come.
        work: what answers it, from when its images are there until it ends.
        ending: how it has ended.
        expires_at: when it is forgotten, once it has ended.
        fetched: set when its answer was sent.
    """

    id: str
    task: str
    model: str
    request_id: str = field(default_factory=lambda: request_id.current.get() or "")
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    progress: Progress = field(default_factory=Progress)
    work: asyncio.Task[None] | None = None
    ending: Ending | None = None
    expires_at: datetime | None = None
    fetched: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> Status:
        """Where it is in its life; it runs from when the device takes its first window."""
        if self.ending is not None:
            return self.ending.status
        return Status.RUNNING if self.progress.started else Status.QUEUED
