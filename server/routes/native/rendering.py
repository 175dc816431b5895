"""How this dialect words the results of a task; each task has a file beside this one."""

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel

from vimserve.model.catalog import ModelSpec
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.urgency import Urgency
from vimserve.server.http.waiting import finish
from vimserve.server.images.prepare import Measured
from vimserve.server.pipeline import Completed, Pipeline
from vimserve.server.tasks.task import Task
from vimserve.server.telemetry.metrics import resolution_bucket

Q = TypeVar("Q")
R = TypeVar("R")
W = TypeVar("W")
Result = dict[str, Any]


@dataclass(frozen=True)
class Rendering(Generic[Q, R]):
    """A task in this dialect.

    Attributes:
        task: what is worded.
        result: one image's result, ready for JSON.
        compared: the type of one model's part of a comparison.
        check_query: the query with which a load test asks for what ``fault`` can check.
        fault: what is wrong with an image's result as a client reads it, or None; also given are
            the result that came first for the same image, and the side of that square image.
    """

    task: Task[Any, R]
    result: Callable[[ModelSpec, Q, Measured, R], BaseModel]
    compared: type[BaseModel]
    check_query: str
    fault: Callable[[Result, Result, int], str | None]


def chosen(request: Request, pipeline: Pipeline, model: str | None, task: str) -> Loaded:
    """The model that a request asks, whose name its log line and its metrics will have.

    Raises:
        ServerError: as ``Models.spec`` and ``Engine.loaded``.
    """
    request.state.task = task
    spec = pipeline.engine.models.spec(model, task)
    request.state.model = spec.name
    return pipeline.engine.loaded(spec.name)


async def answered(
    request: Request, work: Coroutine[Any, Any, Completed[W]], urgency: Urgency
) -> Completed[W]:
    """What ``work`` completes, unless the client leaves or its time passes.

    Raises:
        ClientDisconnect, ServerError: as ``finish``.
    """
    completed = await finish(request, work, urgency)
    size = max((one.size for one in completed.measured), key=math.prod)
    request.state.resolution = resolution_bucket(*size)
    return completed
