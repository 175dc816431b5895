"""Reads the parameters of a task: those that Hugging Face names, and the task's own query."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from vimserve.server.routes.answering import ask
from vimserve.server.routes.json_body import validated
from vimserve.server.tasks.task import Q, Task

P = TypeVar("P", bound="Parameters")


class Parameters(BaseModel):
    """What Hugging Face names for a task."""

    model_config = ConfigDict(extra="forbid", strict=True)


def read_parameters(
    given: Mapping[str, Any], form: type[P], task: Task[Q, Any], without: Collection[str] = ()
) -> tuple[P, Q]:
    """The parameters of ``form``, and the task's query with all others.

    Args:
        given: parameters as in JSON.
        form: those that Hugging Face names.
        task: the task.
        without: names of the task's query that are no parameters here.

    Raises:
        MalformedRequest: for an unknown name or a value that is not accepted.
    """
    names = tuple(form.model_fields)
    own = {name: given[name] for name in names if name in given}
    others = {name: value for name, value in given.items() if name not in own}
    query = ask(task, others, names, without)
    return validated(form, own, "parameters."), query
