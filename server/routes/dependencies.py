"""The dependencies of every route that runs a model."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BeforeValidator, Field

from vimserve.server.engine.engine import State
from vimserve.server.engine.urgency import Urgency
from vimserve.server.pipeline import Pipeline
from vimserve.server.tasks.numbers import whole_number

HIGHEST_PRIORITY, DEFAULT_PRIORITY, LOWEST_PRIORITY = 1, 5, 9
MAX_TIMEOUT_MS = 3_600_000

Priority = Annotated[
    int,
    Field(ge=HIGHEST_PRIORITY, le=LOWEST_PRIORITY),
    BeforeValidator(whole_number(HIGHEST_PRIORITY, LOWEST_PRIORITY)),
    Header(
        alias="X-Request-Priority",
        description="1 is served first, 9 last",
        examples=[1, 9],
    ),
]
TimeoutMs = Annotated[
    int | None,
    Field(ge=1, le=MAX_TIMEOUT_MS),
    BeforeValidator(whole_number(1, MAX_TIMEOUT_MS)),
    Header(
        alias="X-Request-Timeout-Ms",
        description="milliseconds, counted from the head of the request, after which the answer "
        "is 408 if the body is not there and 504 otherwise; by default what the server sets",
        examples=[2000],
    ),
]


async def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


# Where a scope has the seconds that a request has waited elsewhere before it came here.
WAITED_S = "vimserve.waited_s"


# Dependencies are coroutines, because FastAPI runs plain functions in a thread pool.
Service = Annotated[Pipeline, Depends(_pipeline)]


async def _server_state(request: Request, pipeline: Service) -> State:
    return State.STOPPING if request.app.state.drain.stopping else pipeline.engine.state


ServerState = Annotated[State, Depends(_server_state)]


async def _urgency(
    request: Request,
    pipeline: Service,
    priority: Priority = DEFAULT_PRIORITY,
    timeout_ms: TimeoutMs = None,
) -> Urgency:
    timeout_s = pipeline.config.request_timeout if timeout_ms is None else timeout_ms / 1000
    arrived = time.monotonic() - request.scope.get(WAITED_S, 0.0)
    return Urgency(arrived, timeout_s, priority)


RequestUrgency = Annotated[Urgency, Depends(_urgency)]


async def _job_urgency(
    pipeline: Service, urgency: RequestUrgency, timeout_ms: TimeoutMs = None
) -> Urgency:
    if timeout_ms is not None:
        return urgency
    return replace(urgency, timeout_s=pipeline.config.job_timeout)


async def admitted(request: Request) -> AsyncIterator[None]:
    """Let the server wait for this request when it stops, for a bounded time.

    Raises:
        NotReady: if the server is stopping, or has waited long enough.
    """
    with request.app.state.drain.request():
        yield


JobUrgency = Annotated[Urgency, Depends(_job_urgency)]
