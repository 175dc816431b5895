"""``/v1/jobs``: the tasks for clients that do not wait for the answer."""

from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vimserve.model.transform import Fit
from vimserve.server.engine.engine import Engine
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.jobs.errors import JobCancelled, JobNotFinished, JobsFull, UnknownJob
from vimserve.server.http.jobs.job import Job, Status
from vimserve.server.http.jobs.jobs import Jobs
from vimserve.server.http.openapi import refusal
from vimserve.server.http.uploads import declared_bytes, read_uploads
from vimserve.server.http.waiting import finish, receive
from vimserve.server.routes.dependencies import JobUrgency, RequestUrgency, Service, admitted
from vimserve.server.routes.documents import IMAGE_BODY, NO_ROOM_IN_QUEUE, PROBLEMS
from vimserve.server.routes.native.classify import NativeClassifyQuery
from vimserve.server.routes.native.detect import FILES, NativeDetectQuery
from vimserve.server.routes.native.rendering import Rendering, understand
from vimserve.server.routes.native.renderings import RENDERINGS
from vimserve.server.routes.native.segment import MASKS, NativeSegmentQuery
from vimserve.server.tasks.query import Resolution

EXAMPLE_ID = "5f0c1b9e-3f2a9c6d0e8b4f7a1c5d9e3b7a2f6c80"

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _job(
    job_id: Annotated[str, Path(description="the `id` of its state", examples=[EXAMPLE_ID])],
    jobs: Annotated[Jobs, Depends(_jobs)],
) -> Job:
    return jobs.get(job_id)


TheJobs = Annotated[Jobs, Depends(_jobs)]
ThisJob = Annotated[Job, Depends(_job)]


class JobQuery(NativeClassifyQuery, NativeSegmentQuery, NativeDetectQuery):
    """What `POST /v1/jobs` may be asked: a task, and what the task's own route may be asked."""

    task: Literal["classify", "segment", "detect"] | None = Field(
        default=None, description="by default what the model does", examples=["segment"]
    )
    model: str | None = Field(
        default=None,
        description="one of `GET /v1/models`; by default the first for the task",
        examples=["demo-seg"],
    )
    resolution: Resolution = Field(default=None, description="as for the task alone")
    fit: Fit | None = Field(  # type: ignore[assignment]
        default=None,
        description="`task=classify`, `task=detect`: as for the task alone",
        examples=["contain"],
    )
    format: Literal["json", "png", "overlay", "coco", "geojson", "geotiff"] = Field(  # type: ignore[assignment]
        default="json",
        description="`task=segment`, `task=detect`: as for the task alone",
        examples=["json", "overlay"],
    )


class JobProgress(BaseModel):
    """How far a job has come."""

    done: int = Field(description="windows that the model has answered")
    total: int = Field(description="windows of all images; an image in one piece has one")


class JobState(BaseModel):
    """Where a job is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "task": "segment",
                "model": "demo-seg",
                "status": "running",
                "created_at": "2026-11-26T21:41:54.318Z",
                "expires_at": None,
                "position": None,
                "progress": {"done": 3, "total": 9},
                "error": None,
                "result": None,
            }
        }
    )

    id: str = Field(description="who knows it may read and delete the job")
    task: str
    model: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    created_at: datetime
    expires_at: datetime | None = Field(
        default=None, description="when the job is forgotten, once it has ended"
    )
    position: int | None = Field(
        default=None,
        description="`queued`: images, or windows, that go before it in its model's queue; null "
        "while its own are still being decoded",
    )
    progress: JobProgress
    error: dict[str, Any] | None = Field(default=None, description="`failed`: the problem")
    result: str | None = Field(default=None, description="`done`: where its answer is")


_GEOJSON = {
    "anyOf": [
        documented[200]["content"]["application/geo+json"]["schema"]
        for documented in (MASKS, FILES)
    ]
}
_RESULT: dict[int | str, dict[str, Any]] = {
    200: {
        "model": reduce(or_, (one.response for one in RENDERINGS.values())),
        "description": "What the task's own route would have answered. If the job has failed, this "
        "is a problem with its status",
        "content": MASKS[200]["content"] | {"application/geo+json": {"schema": _GEOJSON}},
        "headers": MASKS[200]["headers"],
    },
    **{status: PROBLEMS[status] for status in (413, 415, 422, 429, 500, 503, 504)},
}
_NO_JOB: dict[int | str, dict[str, Any]] = {
    404: refusal(
        "No such job: expired, deleted or lost when the server restarted",
        UnknownJob(
            f"job {EXAMPLE_ID} has expired or was deleted; jobs are kept for 600 s after their end",
            value=EXAMPLE_ID,
        ),
    )
}
_FULL = JobsFull(
    "the server holds 256 jobs, ended ones included, which is its limit; delete those whose "
    "results you have",
    limit=256,
    value=257,
    retry_after_s=12,
)
_NOT_FINISHED = JobNotFinished(
    f"job {EXAMPLE_ID} is running: it has no result yet", limit=Status.DONE, value=Status.RUNNING
)
_CANCELLED = JobCancelled(
    f"job {EXAMPLE_ID} was cancelled: it has no result", limit=Status.DONE, value=Status.CANCELLED
)


@router.post(
    "",
    status_code=202,
    response_model=JobState,
    openapi_extra=IMAGE_BODY,
    responses={
        202: {
            "description": "The job, which its header `Location` names as well. It is in memory "
            "only: a restart of the server loses it",
            "headers": {
                "Location": {
                    "description": "where its state is",
                    "schema": {"type": "string"},
                    "example": f"{router.prefix}/{EXAMPLE_ID}",
                }
            },
        },
        **PROBLEMS,
        429: refusal(
            "The queue or the store of jobs is full, or the answer would come too late; see "
            "Retry-After",
            _FULL,
            *NO_ROOM_IN_QUEUE,
        ),
    },
    dependencies=[Depends(admitted)],
)
async def post(
    request: Request,
    pipeline: Service,
    jobs: TheJobs,
    urgency: RequestUrgency,
    job_urgency: JobUrgency,
    query: Annotated[JobQuery, Query()],
) -> Response:
    """Send images whose answer is fetched later.

    What the task's own route would refuse at once is refused here in the same way.
    """
    rendering = _rendering(pipeline.engine, query)
    asked = understand(request, pipeline, rendering, _own_query(rendering, query))
    name, task = asked.model.runner.spec.name, rendering.task.name
    config = pipeline.config
    with jobs.posted(task, name, min(declared_bytes(request), config.max_body_bytes)) as job:
        reading = read_uploads(request, config.max_body_bytes, config.max_images)
        images = await receive(reading, urgency)
        jobs.hold(job, sum(len(image.data) for image in images))

        async def work() -> Response:
            completed = await asked.run(pipeline, images, job_urgency, job.progress)
            return asked.form.respond(completed)

        await finish(request, jobs.begin(job, work, job_urgency), urgency)
    state = _state(request, pipeline.engine, job)
    headers = {"Location": _path(request, job)}
    return JSONResponse(state.model_dump(mode="json"), 202, headers)


@router.get("/{job_id}", responses=_NO_JOB)
async def get(request: Request, pipeline: Service, job: ThisJob) -> JobState:
    """Where a job is."""
    return _state(request, pipeline.engine, job)


@router.get(
    "/{job_id}/result",
    response_class=Response,
    responses={
        **_RESULT,
        **_NO_JOB,
        409: refusal("The job has not ended; see Retry-After", _NOT_FINISHED),
        410: refusal("The job was cancelled", _CANCELLED),
    },
)
async def result(jobs: TheJobs, job: ThisJob) -> Response:
    """The answer of a job, as often as it is asked for until the job expires."""
    return jobs.answer(job)


@router.delete("/{job_id}", status_code=204, responses=_NO_JOB)
async def delete(jobs: TheJobs, job: ThisJob) -> None:
    """Cancel a job that has not ended, or forget one that has.

    Images that wait leave the queue; what the device runs already is dropped.
    """
    jobs.delete(job)


def _rendering(engine: Engine, query: JobQuery) -> Rendering[Any, Any]:
    """How the task is rendered that the query, or else its model, names."""
    if query.task is not None:
        return RENDERINGS[query.task]
    name = engine.models.default() if query.model is None else query.model
    return RENDERINGS[engine.models.find(name).spec.task]


def _own_query(rendering: Rendering[Any, Any], query: JobQuery) -> BaseModel:
    """The query as the task's own route has it.

    Raises:
        InvalidParameter: the task does not accept it.
    """
    given = query.model_dump(exclude={"task"}, exclude_unset=True)
    known, task = rendering.query.model_fields, rendering.task.name
    for name, value in given.items():
        if name not in known:
            raise InvalidParameter(
                f"there is no parameter {name} for task={task}",
                parameter=name,
                limit=list(known),
                value=value,
            )
    try:
        return rendering.query.model_validate(given)
    except ValidationError as error:
        raise InvalidParameter.of(error.errors()[0]) from error


def _path(request: Request, job: Job) -> str:
    """As clients see it."""
    return f"{request.scope.get('root_path', '')}{router.prefix}/{job.id}"


def _state(request: Request, engine: Engine, job: Job) -> JobState:
    ending, progress = job.ending, job.progress
    return JobState(
        id=job.id,
        task=job.task,
        model=job.model,
        status=job.status.value,
        created_at=job.created_at,
        expires_at=job.expires_at,
        position=engine.position(progress),
        progress=JobProgress(done=progress.done, total=progress.total),
        error=ending.error if ending else None,
        result=f"{_path(request, job)}/result" if job.status is Status.DONE else None,
    )
