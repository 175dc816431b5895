"""The fields of the tasks' queries as flags, and the models that can do a task."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vimserve.model.spec import ModelSpec
from vimserve.server.engine.models import does
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.task import Task


def add_task_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``."""
    default = next(iter(TASKS))
    parser.add_argument(
        "--task", choices=tuple(TASKS), default=default, help=f"(default: {default})"
    )


def add_query_flags(parser: argparse.ArgumentParser, but: Collection[str] = ()) -> None:
    """Add a flag for each field of the tasks' queries, but not those named in ``but``."""
    for name, tasks in _query_fields().items():
        if name in but:
            continue
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


def check_query_flags(task: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags of other tasks.

    Raises:
        ValueError: with the tasks that the flag is for.
    """
    fields = _query_fields()
    for name in flags:
        if TASKS[task] not in fields[name]:
            others = " or ".join(other.name for other in fields[name])
            raise ValueError(f"--{name.replace('_', '-')} is for --task {others}")


def able(specs: Sequence[ModelSpec], task: str) -> list[ModelSpec]:
    """Those of the models that can do the task.

    Raises:
        ValueError: if none can.
    """
    found = [spec for spec in specs if spec.task == task]
    if not found:
        others = ", ".join(f"{spec.name} {does(spec.task)}" for spec in specs)
        raise ValueError(f"no model can {task}: {others}; choose another --model or --task")
    return found


def _query_fields() -> dict[str, list[Task[Any, Any]]]:
    """The fields of all tasks' queries, each with the tasks that have it."""
    fields: dict[str, list[Task[Any, Any]]] = {}
    for task in TASKS.values():
        for name in task.query.model_fields:
            fields.setdefault(name, []).append(task)
    return fields
