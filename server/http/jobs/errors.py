"""Failures that only requests for jobs can have."""

from http import HTTPStatus

from vimserve.server.errors import BadRequest, Overloaded


class UnknownJob(BadRequest):
    """There is no such job: it has expired or was deleted, or the server has restarted since."""

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-job"


class JobNotFinished(BadRequest):
    """The job has no result yet."""

    status = HTTPStatus.CONFLICT
    slug = "job-not-finished"
    retry_after_s = 1


class JobCancelled(BadRequest):
    """The job was cancelled, so it will have no result."""

    status = HTTPStatus.GONE
    slug = "job-cancelled"


class JobsFull(Overloaded):
    """There is no room for another job, or for a job's result."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "jobs-full"
