"""How the native API renders the results of a task; each task has a module beside this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel

from vimserve.model.spec import ModelSpec
from vimserve.server.engine.urgency import Urgency
from vimserve.server.http.waiting import exchange
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import Source
from vimserve.server.pipeline import Completed, Pipeline
from vimserve.server.routes.answering import note_size
from vimserve.server.tasks.task import Task

Q = TypeVar("Q")
R = TypeVar("R")
W = TypeVar("W")
Result = dict[str, Any]


@dataclass(frozen=True)
class Rendering(Generic[Q, R]):
    """A task in the native API.

    Attributes:
        task: the task.
        result: turns one image's result into its schema.
        compared: schema of one model's part of a comparison.
        check_query: query string of the requests whose answers ``fault`` can check.
        fault: says what is wrong with an image's result in JSON, or returns None. Its arguments
            are the result, the first result for the same image, and the side of that square image.
    """

    task: Task[Any, R]
    result: Callable[[ModelSpec, Q, Measured, R], BaseModel]
    compared: type[BaseModel]
    check_query: str
    fault: Callable[[Result, Result, int], str | None]


async def answer(
    request: Request,
    pipeline: Pipeline,
    urgency: Urgency,
    task: Task[Any, R],
    query: Any,
    render: Callable[[ModelSpec, Q, Measured, R], W],
    admit: Callable[[Sequence[Source]], None] | None = None,
    *,
    drawing: bool = False,
) -> tuple[ModelSpec, Completed[W]]:
    """Ask the model that ``query.model`` names, or the first for the task.

    The request's line in the log and its metrics get the model's name and the input's size.

    Args:
        request: the request, whose body has the images.
        pipeline: runs the model.
        urgency: deadline and priority.
        task: the task.
        query: its query parameters.
        render: as ``Rendering.result``.
        admit: raises a ServerError if the images cannot be answered together.
        drawing: whether ``render`` takes the whole pictures.

    Returns:
        The model, and the results for the images.

    Raises:
        ClientDisconnect: the client hung up.
        ServerError: the images cannot be answered.
    """
    request.state.task = task.name
    spec = pipeline.engine.models.spec(query.model, task.name)
    request.state.model = spec.name
    model = pipeline.engine.loaded(spec.name)
    plan = task.plan(spec, query, pipeline.config.max_resolution)

    async def work(images: Sequence[Source]) -> Completed[W]:
        if admit is not None:
            admit(images)
        rendering = partial(render, spec, query)
        return await pipeline.run(model, plan, images, urgency, rendering, drawing=drawing)

    completed = await exchange(request, urgency, pipeline.config, work)
    note_size(request, completed)
    return spec, completed
