"""How long a job may take."""

import asyncio
import time

import pytest
from fastapi.responses import Response

from tests.patience import PATIENCE_S
from tests.server.http.jobs.posting import post, until
from vimserve.server.config import ServerConfig
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import RequestTimeout
from vimserve.server.http.drain import Drain
from vimserve.server.http.jobs.job import Status
from vimserve.server.http.jobs.jobs import Jobs
from vimserve.server.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("headers", "timeout_s", "priority"),
    [
        ({}, 700, 5),
        ({"X-Request-Timeout-Ms": "300000"}, 300, 5),
        ({"X-Request-Timeout-Ms": "3600000", "X-Request-Priority": "2"}, 3600, 2),
    ],
)
def test_a_job_has_its_own_time(serve, monkeypatch, picture, encode, headers, timeout_s, priority):
    client, app = serve(job_timeout=700, request_timeout=500)
    run, seen = app.state.pipeline.run, []

    def watch(model, plan, images, urgency, render, **options):
        seen.append(urgency)
        return run(model, plan, images, urgency, render, **options)

    monkeypatch.setattr(app.state.pipeline, "run", watch)
    url = post(client, encode(picture(64, 64)), **headers)
    until(client, url, "done")
    assert [(urgency.timeout_s, urgency.priority) for urgency in seen] == [(timeout_s, priority)]


async def never(job, admit):
    if admit:
        job.progress.admit(3)
    await asyncio.sleep(PATIENCE_S)
    return Response()


def begin(jobs, job, admit, timeout_s):
    return jobs.begin(job, lambda: never(job, admit), Urgency(time.monotonic(), timeout_s, 5))


def work_of(job):
    assert job.work is not None
    return job.work


def test_a_job_whose_time_is_over_fails():
    async def run():
        jobs = Jobs(ServerConfig(), Metrics(), Drain(PATIENCE_S))
        with jobs.posted("classify", "tiny", 10) as job:
            await begin(jobs, job, admit=True, timeout_s=0)
            work = work_of(job)
        await asyncio.wait([work])
        assert (job.status, job.progress.total) == (Status.FAILED, 3)
        assert jobs.answer(job).status_code == 504
        jobs.close()

    asyncio.run(run())


def test_its_client_is_told_if_that_is_before_it_is_admitted():
    async def run():
        jobs = Jobs(ServerConfig(), Metrics(), Drain(PATIENCE_S))
        with pytest.raises(RequestTimeout), jobs.posted("classify", "tiny", 10) as job:
            await begin(jobs, job, admit=False, timeout_s=0)
        assert sum(jobs.count().values()) == 0

    asyncio.run(run())


def test_what_is_left_is_cancelled_at_the_end():
    async def run():
        jobs = Jobs(ServerConfig(), Metrics(), Drain(PATIENCE_S))
        with jobs.posted("classify", "tiny", 10) as job:
            await begin(jobs, job, admit=True, timeout_s=PATIENCE_S)
        work = work_of(job)
        jobs.close()
        await asyncio.wait([work])
        assert work.cancelled()

    asyncio.run(run())
