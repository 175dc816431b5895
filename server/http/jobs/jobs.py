"""The jobs of a server: their work, their ends and their expiry."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from fastapi.responses import Response

from vimserve.server.config import ServerConfig
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import UNFORESEEN, ServerError
from vimserve.server.http.drain import Drain
from vimserve.server.http.jobs.errors import JobCancelled, JobNotFinished
from vimserve.server.http.jobs.job import Ending, Job, Status
from vimserve.server.http.jobs.store import Store
from vimserve.server.http.problems import problem_response
from vimserve.server.http.waiting import in_time
from vimserve.server.telemetry.metrics import Metrics

# Once the server stops, so long it waits for clients that ask again for a job that ended late.
FETCH_S = 5

logger = logging.getLogger(__name__)


class Jobs:
    """Answers requests whose clients do not wait. It belongs to the event loop's thread.

    Args:
        config: the limits.
        metrics: where ended jobs are counted.
        drain: lets the server wait for jobs when it stops.
        clock: tells the seconds by which jobs expire.
    """

    def __init__(
        self,
        config: ServerConfig,
        metrics: Metrics,
        drain: Drain,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = timedelta(seconds=config.job_retention)
        self._metrics = metrics
        self._drain = drain
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._store: Store[Job] = Store(
            config.max_jobs, config.max_job_bytes, config.job_retention, lambda: self._clock()
        )

    @property
    def mark(self) -> str:
        """What the ids of this server's jobs begin with."""
        return self._store.mark

    def count(self) -> Mapping[str, int]:
        """How many jobs have each status."""
        held = Counter(job.status for job in self._store)
        return {status: held[status] for status in Status}

    def get(self, name: str) -> Job:
        """The job of that id.

        Raises:
            UnknownJob: there is none.
        """
        self._store.expire()
        return self._store.get(name)

    def answer(self, job: Job) -> Response:
        """What a client that had waited would have got.

        Raises:
            JobNotFinished, JobCancelled: there is no answer.
        """
        if job.ending is None:
            raise JobNotFinished(
                f"job {job.id} is {job.status}: it has no result yet",
                limit=Status.DONE,
                value=job.status,
            )
        if job.ending.answer is None:
            raise JobCancelled(
                f"job {job.id} was cancelled: it has no result",
                limit=Status.DONE,
                value=job.status,
            )
        job.fetched.set()
        return job.ending.answer

    @contextmanager
    def posted(self, task: str, model: str, num_bytes: int) -> Iterator[Job]:
        """A place for a job that is being posted; if the block fails, the job never was.

        Args:
            task: name of the task.
            model: name of the model.
            num_bytes: of the upload, if it is known yet. So it is refused at once if there is no
                room for them, but they hold none until they are there.

        Raises:
            JobsFull: there is no room.
            BodyTooLarge: there will never be room.
        """
        self._store.expire()
        job = Job(self._store.new_id(), task, model)
        self._store.add(job, num_bytes)
        self._store.resize(job, 0)
        try:
            yield job
        except BaseException:
            self._store.remove(job)
            _cancel(job)
            raise

    def hold(self, job: Job, num_bytes: int) -> None:
        """Count the bytes of the upload, now that it is there.

        Raises:
            JobsFull: there is no room for them.
            BodyTooLarge: there will never be room for them.
        """
        self._store.resize(job, num_bytes)

    async def begin(
        self, job: Job, work: Callable[[], Coroutine[Any, Any, Response]], urgency: Urgency
    ) -> None:
        """Begin to work on a job; return once there is no reason left to refuse it at once.

        Args:
            job: the job, whose progress the work keeps up to date.
            work: makes the answer.
            urgency: deadline and priority of the work.

        Raises:
            ServerError: it is refused.
        """
        job.work = running = asyncio.create_task(self._run(job, work, urgency))
        running.add_done_callback(partial(_let_go, job))
        admitted = asyncio.ensure_future(job.progress.admitted.wait())
        try:
            await asyncio.wait({running, admitted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            admitted.cancel()
        if not job.progress.admitted.is_set():
            running.result()

    def delete(self, job: Job) -> None:
        """Cancel a job, or forget it if it has ended."""
        if job.ending is None:
            self._end(job, Ending(Status.CANCELLED))
        else:
            self._store.remove(job)
        _cancel(job)

    def close(self) -> None:
        """Stop the timer, and cancel what is left."""
        if self._timer is not None:
            self._timer.cancel()
        for job in self._store:
            _cancel(job)

    async def _run(
        self, job: Job, work: Callable[[], Coroutine[Any, Any, Response]], urgency: Urgency
    ) -> None:
        try:
            with self._drain.request():
                self._end(job, Ending(Status.DONE, await in_time(work(), urgency)))
                if self._drain.stopping:
                    await _fetched(job)
        except Exception as error:
            if not job.progress.admitted.is_set():
                raise  # refused: ``begin`` waits for this
            if job.ending is None:
                self._end(job, self._failed(error))

    def _failed(self, error: Exception) -> Ending:
        if not isinstance(error, ServerError):
            logger.error("a job failed", exc_info=error)
            error = ServerError(UNFORESEEN)
        self._metrics.rejected.labels(error.slug).inc()
        members = error.problem()
        return Ending(Status.FAILED, problem_response(members, error.headers), members)

    def _end(self, job: Job, ending: Ending) -> None:
        """Record how a job has ended.

        Raises:
            JobsFull, BodyTooLarge: there is no room for its result; it has not ended then.
        """
        self._store.resize(job, ending.result_bytes)
        self._store.end(job, replaceable=ending.status is Status.CANCELLED)
        job.progress.close()
        job.ending, job.expires_at = ending, datetime.now(UTC) + self._keep
        self._metrics.jobs_finished.labels(ending.status).inc()
        facts = {"request_id": job.request_id, "model": job.model, "outcome": ending.status}
        logger.info("job %(outcome)s %(model)s", facts, extra=facts)
        self._set_timer()

    def _set_timer(self) -> None:
        expiry = self._store.next_expiry
        if self._timer is None and expiry is not None:
            left_s = max(expiry - self._clock(), 0)
            self._timer = asyncio.get_running_loop().call_later(left_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._store.expire()
        self._set_timer()


def _cancel(job: Job) -> None:
    if job.work is not None:
        job.work.cancel()


def _let_go(job: Job, work: asyncio.Task[None]) -> None:
    """Keep nothing of the work: its exception's traceback would hold the upload."""
    job.work = None
    if not work.cancelled():
        work.exception()  # so it counts as known, also if its client hung up


async def _fetched(job: Job) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(FETCH_S):
            await job.fetched.wait()
