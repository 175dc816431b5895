"""``vimserve predict``: runs the server's pipeline on image files, without a server."""

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vimserve.model.catalog import resolve
from vimserve.model.spec import ModelSpec
from vimserve.model.threads import use_threads
from vimserve.server.config import Config, ServerConfig
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.models import does
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ServerError
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import EncodedImage
from vimserve.server.pipeline import Pipeline
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.query import ImageQuery
from vimserve.server.tasks.task import Plan, Task
from vimserve.server.telemetry.metrics import Metrics

# Enough to fill a batch while the next one is decoded; more would only take memory.
FILES_AT_ONCE = 32


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        files: paths; ``-`` is the standard input.
        task: one of ``TASKS``.
        query: the given flags, by the names of the task's query fields.
        output: file for the result, if there is only one.
        form: its format, one of the task's ``formats``; by default the first.
    """

    files: Sequence[str]
    task: Task[Any, Any]
    query: Mapping[str, Any]
    output: Path | None = None
    form: str | None = None


@dataclass(frozen=True)
class Asked:
    """One model, with its query and its plan."""

    spec: ModelSpec
    query: ImageQuery
    plan: Plan[Any]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``, ``--output`` and a flag for each field of the tasks' queries."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or - for stdin")
    default = next(iter(TASKS))
    parser.add_argument(
        "--task", choices=tuple(TASKS), default=default, help=f"(default: {default})"
    )
    formats = dict.fromkeys(form for task in TASKS.values() for form in task.formats)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file for the result")
    parser.add_argument(
        "--format", choices=tuple(formats), dest="form", help="format of that file (default: png)"
    )
    for name, tasks in _query_fields().items():
        field = tasks[0].query.model_fields[name]
        choices = [choice for task in tasks for choice in task.choices(name)]
        written = field.examples and isinstance(field.examples[0], str)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            **(
                {"choices": tuple(dict.fromkeys(choices))}
                if choices
                else {"metavar": name.upper() if written else "N"}
            ),
            help=f"{' and '.join(task.name for task in tasks)}: {field.description}".replace(
                "`", ""
            ),
        )


def request_of(images: Sequence[str], task: str, **flags: Any) -> Request:
    """The request that parsed flags describe.

    Raises:
        ValueError: for a flag that belongs to another task.
    """
    output, form = flags.pop("output"), flags.pop("form")
    fields = _query_fields()
    for name in flags:
        if TASKS[task] not in fields[name]:
            others = " or ".join(other.name for other in fields[name])
            raise ValueError(f"--{name.replace('_', '-')} is for --task {others}")
    return Request(images, TASKS[task], flags, output, form)


def predict(config: Config, request: Request) -> int:
    """Run the models on every file and print the results.

    Returns:
        0, or 1 if any file could not be answered; the others still are.

    Raises:
        ValueError: for a model, a checkpoint or a parameter that cannot be used.
    """
    use_threads(config.threads)
    task = request.task
    specs = [resolve(name) for name in config.model]
    able = [spec for spec in specs if spec.task == task.name]
    if not able:
        others = ", ".join(f"{spec.name} {does(spec.task)}" for spec in specs)
        raise ValueError(f"no model can {task.name}: {others}; choose another --model or --task")
    if request.output and (not task.formats or len(request.files) > 1 or len(able) > 1):
        drawn = " or ".join(does(task.name) for task in TASKS.values() if task.formats)
        raise ValueError(f"--output is for one model that {drawn} a single image")
    try:
        query = task.ask(request.query)
        asked = [Asked(spec, query, task.plan(spec, query, config.max_resolution)) for spec in able]
        return int(not asyncio.run(_answer_all(config, request, asked)))
    except ServerError as error:
        raise ValueError(error.detail) from error


async def _answer_all(config: Config, request: Request, asked: Sequence[Asked]) -> bool:
    # There is a single client, and it waits: no queue limit is needed.
    settings = config.model_dump() | {"max_queue_tokens": sys.maxsize}
    server, metrics = ServerConfig.from_flags(settings), Metrics()
    engine = Engine([one.spec for one in asked], server, metrics)
    pipeline = Pipeline(server, engine, metrics)
    engine.start()
    try:
        await engine.ready()
        answered = True
        for one in asked:
            if len(asked) > 1:
                print(f"model {one.spec.name}")
            answered &= await _answer(pipeline, request, one)
        return answered
    finally:
        await engine.stop(server.drain_timeout)
        pipeline.close()


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
    if request.output:
        form = request.form or request.task.formats[0]
        request.output.write_bytes(request.task.file(asked.spec, form, measured, result))


def _query_fields() -> dict[str, list[Task[Any, Any]]]:
    """The fields of all tasks' queries, each with the tasks that have it."""
    fields: dict[str, list[Task[Any, Any]]] = {}
    for task in TASKS.values():
        for name in task.query.model_fields:
            fields.setdefault(name, []).append(task)
    return fields
