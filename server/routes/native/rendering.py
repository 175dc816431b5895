"""How the native API renders the results of a task; each task has a module beside this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from vimserve.model.spec import ModelSpec
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.progress import Progress
from vimserve.server.engine.urgency import Urgency
from vimserve.server.http.waiting import exchange
from vimserve.server.images.cost import Cost
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Completed, Pipeline
from vimserve.server.routes.answering import note_size
from vimserve.server.routes.native.schemas import BatchInfo, Timing
from vimserve.server.tasks.task import Plan, Task

Q = TypeVar("Q")
R = TypeVar("R")
W = TypeVar("W")
Result = dict[str, Any]


def _any_number(_images: Sequence[Source]) -> None:
    pass


@dataclass(frozen=True)
class Form(Generic[R, W]):
    """How the answer to a query is written.

    Attributes:
        render: turns an image's result into its part of the answer; runs in another thread.
        respond: makes the answer of its parts.
        admit: raises a ServerError if the images cannot be answered together.
        decoding: what it costs ``render`` to decode an image once more, if it does.
        file: the one of the task's ``formats`` that ``render`` makes, if it makes a file.
    """

    render: Callable[[Measured, R], W]
    respond: Callable[[Completed[W]], Response]
    admit: Callable[[Sequence[Source]], None] = _any_number
    decoding: Callable[[Measured], Cost] | None = None
    file: str | None = None


@dataclass(frozen=True)
class Rendering(Generic[Q, R]):
    """A task in the native API.

    Attributes:
        task: the task.
        query: the type ``Q``, what the task's route may be asked.
        response: schema of its answer in JSON.
        form: how the answer to such a query is written.
        result: turns one image's result into its schema.
        compared: schema of one model's part of a comparison.
        check_query: query string of the requests whose answers ``fault`` can check.
        fault: says what is wrong with an image's result in JSON, or returns None. Its arguments
            are the result, the first result for the same image, and the side of that square image.
    """

    task: Task[Any, R]
    query: type[BaseModel]
    response: type[BaseModel]
    form: Callable[[ModelSpec, Q], Form[R, Any]]
    result: Callable[[ModelSpec, Q, Measured, R], BaseModel]
    compared: type[BaseModel]
    check_query: str
    fault: Callable[[Result, Result, int], str | None]


@dataclass(frozen=True)
class Asked(Generic[R, W]):
    """A query that has been understood.

    Attributes:
        model: the model that answers.
        plan: how it answers.
        form: how the answer is written.
    """

    model: Loaded
    plan: Plan[R]
    form: Form[R, W]

    async def run(
        self,
        pipeline: Pipeline,
        images: Sequence[Source],
        urgency: Urgency,
        progress: Progress | None = None,
    ) -> Completed[W]:
        """The parts of the answer for these images.

        Raises:
            ServerError: they cannot be answered.
        """
        self.form.admit(images)
        return await pipeline.run(
            self.model,
            self.plan,
            images,
            urgency,
            self.form.render,
            decoding=self.form.decoding,
            progress=progress,
        )


def understand(
    request: Request, pipeline: Pipeline, rendering: Rendering[Any, R], query: Any
) -> Asked[R, Any]:
    """What a query asks of the model that ``query.model`` names, or of the first for the task.

    The request's line in the log and its metrics get the model's name.

    Raises:
        ServerError: there is no such model, or it does not accept the query.
    """
    task = rendering.task
    request.state.task = task.name
    spec = pipeline.engine.models.spec(query.model, task.name)
    request.state.model = spec.name
    model = pipeline.engine.loaded(spec.name)
    form = rendering.form(spec, query)
    plan = task.plan(spec, query, pipeline.config.max_resolution, form.file)
    return Asked(model, plan, form)


async def answer(
    request: Request,
    pipeline: Pipeline,
    urgency: Urgency,
    rendering: Rendering[Any, Any],
    query: Any,
) -> Response:
    """Answer a request for a task, whose body has the images.

    Its metrics get the input's size.

    Raises:
        ClientDisconnect: the client hung up.
        ServerError: the images cannot be answered.
    """
    asked = understand(request, pipeline, rendering, query)
    work = partial(asked.run, pipeline, urgency=urgency)
    completed = await exchange(request, urgency, pipeline.config, work)
    note_size(request, completed)
    return asked.form.respond(completed)


def json_response(schema: type[BaseModel], spec: ModelSpec, completed: Completed[Any]) -> Response:
    """The answer in JSON, whose schema has the results, their timing and their batch."""
    body = schema(
        model=spec.name,
        results=completed.results,
        timing_ms=Timing.of(completed.stages),
        batch=BatchInfo.of(completed.batch),
    )
    content = body.model_dump_json(exclude_none=True)
    return timed_response(content, "application/json", completed)


def timed_response(content: str | bytes, media_type: str, completed: Completed[Any]) -> Response:
    """An answer with the header ``Server-Timing``."""
    headers = {"Server-Timing": Timing.of(completed.stages).header()}
    return Response(content, headers=headers, media_type=media_type)
