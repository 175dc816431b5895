"""From a request to its results, for protocols in which a request names its model."""

import math
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request

from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import InvalidParameter
from vimserve.server.http.waiting import finish
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Completed, Pipeline
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.tasks.task import Plan, Q, R, Task
from vimserve.server.telemetry.metrics import resolution_bucket

W = TypeVar("W")


def loaded_model(request: Request, pipeline: Pipeline, name: str) -> Loaded:
    """The model of that name; the request's metrics and its line in the log name it too.

    Raises:
        NotReady, UnknownModel, ModelUnavailable: it cannot answer.
    """
    model = pipeline.engine.loaded(name)
    request.state.model, request.state.task = name, model.runner.spec.task
    return model


async def run(
    request: Request,
    pipeline: Pipeline,
    model: Loaded,
    plan: Plan[R],
    images: Sequence[Source],
    urgency: Urgency,
    render: Callable[[Measured, R], W],
) -> Completed[W]:
    """Answer a request whose body has been read.

    Raises:
        ClientDisconnect: the client hung up.
        ServerError: the images cannot be answered.
    """
    work = pipeline.run(model, plan, images, urgency, render)
    completed = await finish(request, work, urgency)
    note_size(request, completed)
    return completed


def note_size(request: Request, completed: Completed[Any]) -> None:
    """Tell the request's metrics the size of its largest input."""
    size = max((one.size for one in completed.measured), key=math.prod)
    request.state.resolution = resolution_bucket(*size)


def ask(
    task: Task[Q, Any],
    given: Mapping[str, Any],
    also: Sequence[str] = (),
    without: Collection[str] = (),
) -> Q:
    """The task's query with these values, which are as in JSON.

    Args:
        task: the task.
        given: values by name; they may be numbers where a query string has text.
        also: names that the protocol has besides, for the error.
        without: names of the query for which the protocol has its own ways.

    Raises:
        MalformedRequest: for an unknown name or a value that is not accepted.
    """
    known = [name for name in task.query.model_fields if name not in without]
    for name, value in given.items():
        if name not in known:
            raise MalformedRequest(
                f"there is no parameter {reprlib.repr(name)}; a model that can {task.name} has "
                f"{', '.join((*also, *known))}",
                parameter=name,
                limit=[*also, *known],
            )
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise MalformedRequest(
                f"parameter {name} must be text or a number, not {reprlib.repr(value)}",
                parameter=name,
            )
    try:
        return task.ask({name: str(value) for name, value in given.items()})
    except InvalidParameter as error:
        raise MalformedRequest(
            f"parameter {error.detail}, not {reprlib.repr(error.value)}",
            parameter=error.parameter,
            limit=error.limit,
            value=error.value,
        ) from error
