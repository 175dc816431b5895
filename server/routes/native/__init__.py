"""The server's own interface, below /v1: a file for each task, and the list of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter

from vimserve.server.routes.native import classify, models, segment
from vimserve.server.routes.native.rendering import Rendering

_TASKS = (classify, segment)
RENDERINGS: Mapping[str, Rendering[Any, Any]] = MappingProxyType(
    {task.RENDERING.task.name: task.RENDERING for task in _TASKS}
)

router = APIRouter()
for _part in (*_TASKS, models):
    router.include_router(_part.router)
