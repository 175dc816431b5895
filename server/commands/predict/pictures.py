"""Runs models on pictures that are taken whole, and prints what they answer."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimserve.model.catalog import resolve
from vimserve.model.spec import ModelSpec
from vimserve.model.threads import use_threads
from vimserve.server.commands.predict.request import Request
from vimserve.server.commands.query_flags import able
from vimserve.server.commands.standalone import standalone
from vimserve.server.config import Config
from vimserve.server.engine.models import does
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ServerError
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import EncodedImage
from vimserve.server.pipeline import Pipeline
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.query import ImageQuery
from vimserve.server.tasks.task import Plan

# Enough to fill a batch while the next one is decoded; more would only take memory.
FILES_AT_ONCE = 32


@dataclass(frozen=True)
class Asked:
    """One model, with its query and its plan."""

    spec: ModelSpec
    query: ImageQuery
    plan: Plan[Any]


def predict_pictures(config: Config, request: Request) -> int:
    """Run the models on every file and print the results.

    Returns:
        0, or 1 if any file could not be answered; the others still are.

    Raises:
        ValueError: for a model, a checkpoint or a parameter that cannot be used.
    """
    use_threads(config.threads)
    task = request.task
    specs = [resolve(name) for name in config.model]
    chosen = able(specs, task.name)
    if request.output and (not task.formats or len(request.files) > 1 or len(chosen) > 1):
        drawn = " or ".join(does(task.name) for task in TASKS.values() if task.formats)
        raise ValueError(f"--output is for one model that {drawn} a single image")
    try:
        query = task.ask(request.query)
        asked = [
            Asked(spec, query, task.plan(spec, query, config.max_resolution, request.picture_form))
            for spec in chosen
        ]
        return int(not asyncio.run(_answer_all(config, request, asked)))
    except ServerError as error:
        raise ValueError(error.detail) from error


async def _answer_all(config: Config, request: Request, asked: Sequence[Asked]) -> bool:
    async with standalone(config, [one.spec for one in asked]) as pipeline:
        answered = True
        for one in asked:
            if len(asked) > 1:
                print(f"model {one.spec.name}")
            answered &= await _answer(pipeline, request, one)
        return answered


async def _answer(pipeline: Pipeline, request: Request, asked: Asked) -> bool:
    """Run one model on every file and print in their order; False if any file failed."""
    at_once = asyncio.Semaphore(FILES_AT_ONCE)
    model = pipeline.engine.loaded(asked.spec.name)
    urgency = Urgency(time.monotonic(), timeout_s=float("inf"), priority=1)

    def render(measured: Measured, result: Any) -> Callable[[], None]:
        return lambda: _show(request, asked, measured, result)

    async def answer(file: str) -> Callable[[], None]:
        async with at_once:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
            image = EncodedImage(data)
            completed = await pipeline.run(model, asked.plan, [image], urgency, render)
            return completed.results[0]

    failed = False
    # A file that is named twice is answered once.
    files = dict.fromkeys(request.files)
    waiting = deque((file, asyncio.create_task(answer(file))) for file in files)
    while waiting:  # what has been printed is kept no longer
        file, work = waiting.popleft()
        try:
            show = await work
        except OSError as error:
            print(f"vimserve: {file}: {error.strerror}", file=sys.stderr)
            failed = True
        except ServerError as error:
            print(f"vimserve: {file}: {error.detail}", file=sys.stderr)
            failed = True
        else:
            print(file)
            show()
    return not failed


def _show(request: Request, asked: Asked, measured: Measured, result: Any) -> None:
    if measured.sample_range:
        low, high = measured.sample_range
        print(f"  samples from {low:.9g} to {high:.9g}")
    for line in request.task.lines(asked.spec, asked.query, result):
        print(f"  {line}")
    if request.output and (form := request.picture_form):
        request.output.write_bytes(request.task.file(asked.spec, form, measured, result))
