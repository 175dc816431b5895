"""All tasks, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vimserve.server.tasks.classify import Classify
from vimserve.server.tasks.detect import Detect
from vimserve.server.tasks.segment import Segment
from vimserve.server.tasks.task import Task

TASKS: Mapping[str, Task[Any, Any]] = MappingProxyType(
    {task.name: task for task in (Classify(), Segment(), Detect())}
)
